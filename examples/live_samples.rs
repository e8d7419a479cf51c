//! Recognises samples that arrive in small blocks, as an audio interface delivers them.
//!
//!     cargo run --release --example live_samples -- RECORDING
//!
//! The recording stands for the microphone: a real program pushes the blocks in the callback of its audio
//! library.

use maeum::{Recognizer, Recording};

/// Samples of a block: 10 ms at 16 kHz.
const BLOCK: usize = 160;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a recording")?;
    let microphone = Recording::open(path)?;
    let recognizer = Recognizer::builtin()?;
    let mut stream = recognizer.stream(microphone.sample_rate)?;
    let mut next = 2.0;
    for block in microphone.samples.chunks(BLOCK) {
        stream.push(block)?;
        if stream.seconds() >= next {
            next += 1.0;
            match stream.latest(2.0) {
                Ok(answer) => println!("{:5.1} s  {}", stream.seconds(), answer.emotion().label()),
                Err(error) => println!("{:5.1} s  {error}", stream.seconds()),
            }
        }
    }
    let answer = stream.answer()?;
    println!("all      {}", answer.emotion().label());
    Ok(())
}
