//! Recognises one recording and prints its answer with labels.
//!
//!     cargo run --release --example recognize_file -- RECORDING

use maeum::{ErrorKind, Recognizer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a recording")?;
    let recognizer = Recognizer::builtin()?;
    let answer = match recognizer.recognize_file(&path) {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::NoSpeech => {
            println!("{path}: no speech");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for emotion in answer.emotions() {
        println!(
            "{:10} {:4.1} %",
            emotion.label(),
            100.0 * emotion.probability()
        );
    }
    println!("age {:.0}", answer.age().years);
    println!("gender {}", answer.gender().label());
    for segment in answer.segments() {
        let time = segment.time();
        let label = segment.emotion().label();
        println!("{:6.2} to {:6.2} s: {label}", time.start, time.end);
    }
    for warning in answer.warnings() {
        println!("warning: {warning}");
    }
    Ok(())
}
