//! Recognises many recordings on all processors and prints a line for each, in order.
//!
//!     cargo run --release --example many_files -- RECORDING...

use maeum::Recognizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let recognizer = Recognizer::builtin()?;
    let mut failed = 0;
    for (path, answer) in paths.iter().zip(recognizer.recognize_files(&paths)) {
        match answer {
            Ok(answer) => {
                let emotion = answer.emotion();
                let percent = 100.0 * emotion.probability();
                println!("{path}\t{}\t{percent:.0} %", emotion.label());
            }
            Err(error) => {
                eprintln!("{error}");
                failed += 1;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} of {} recordings failed", paths.len()).into()),
    }
}
