//! Writes answers in a format of one's own: here the segments of each recording as WebVTT captions.
//!
//!     cargo run --release --example custom_output -- RECORDING

use maeum::{Answer, Recognizer};

/// Time in the form `hours:minutes:seconds.milliseconds`.
fn timestamp(seconds: f64) -> String {
    let milliseconds = (seconds * 1000.0).round() as u64;
    let (hours, rest) = (milliseconds / 3_600_000, milliseconds % 3_600_000);
    let (minutes, rest) = (rest / 60_000, rest % 60_000);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}",
        rest / 1000,
        rest % 1000
    )
}

fn captions(answer: &Answer) -> String {
    let mut text = "WEBVTT\n".to_owned();
    for segment in answer.segments() {
        let (time, emotion) = (segment.time(), segment.emotion());
        let (start, end) = (timestamp(time.start), timestamp(time.end));
        let percent = 100.0 * emotion.probability();
        text += &format!(
            "\n{start} --> {end}\n{} ({percent:.0} %)\n",
            emotion.label()
        );
    }
    text
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a recording")?;
    print!(
        "{}",
        captions(&Recognizer::builtin()?.recognize_file(path)?)
    );
    Ok(())
}
