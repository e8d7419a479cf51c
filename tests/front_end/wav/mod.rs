//! WAV files in memory, and the committed recordings in other formats.
#![allow(dead_code)] // each test binary uses its own part

use std::path::PathBuf;

use maeum::audio::Recording;

/// WAV file of any kind; every field can be set to a wrong value.
#[derive(Clone)]
pub struct Wav {
    pub riff: &'static [u8; 4],
    pub tag: u16,
    pub channels: u16,
    pub rate: u32,
    pub align: u16,
    pub bits: u16,
    /// Number of valid bits in an extensible header.
    pub extensible: Option<u16>,
    pub before: Vec<u8>,
    pub data: Vec<u8>,
    /// Length field of the data chunk.
    pub length: Option<u32>,
    pub after: Vec<u8>,
}

impl Wav {
    pub fn new(tag: u16, bits: u16, data: Vec<u8>) -> Self {
        Self {
            riff: b"RIFF",
            tag,
            channels: 1,
            rate: 16_000,
            align: bits.div_ceil(8),
            bits,
            extensible: None,
            before: vec![],
            data,
            length: None,
            after: vec![],
        }
    }

    pub fn pcm16(samples: &[i16]) -> Self {
        Self::new(
            1,
            16,
            samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
        )
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn format(&self) -> Vec<u8> {
        let mut out = vec![];
        let tag = if self.extensible.is_some() {
            0xFFFE
        } else {
            self.tag
        };
        out.extend(tag.to_le_bytes());
        out.extend(self.channels.to_le_bytes());
        out.extend(self.rate.to_le_bytes());
        out.extend((self.rate.wrapping_mul(self.align.into())).to_le_bytes());
        out.extend(self.align.to_le_bytes());
        out.extend(self.bits.to_le_bytes());
        if let Some(valid) = self.extensible {
            out.extend(22u16.to_le_bytes());
            out.extend(valid.to_le_bytes());
            out.extend(4u32.to_le_bytes());
            out.extend(self.tag.to_le_bytes());
            out.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71]);
        }
        out
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.riff.to_vec();
        out.extend(u32::MAX.to_le_bytes());
        out.extend(b"WAVE");
        out.extend(chunk(b"fmt ", &self.format()));
        out.extend(&self.before);
        out.extend(b"data");
        out.extend(self.length.unwrap_or(self.data.len() as u32).to_le_bytes());
        out.extend(&self.data);
        out.extend(&self.after);
        out
    }
}

pub fn chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = id.to_vec();
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(body);
    out
}

/// Returns samples of all magnitudes, including both extremes.
pub fn pattern() -> Vec<i16> {
    let noise = (0..997u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as i16);
    noise
        .chain([0, 1, -1, i16::MAX, i16::MIN, 255, -256])
        .collect()
}

pub fn as_integers(recording: &Recording) -> Vec<i32> {
    recording
        .samples
        .iter()
        .map(|x| (x * 32768.0) as i32)
        .collect()
}

pub fn widened(samples: &[i16]) -> Vec<i32> {
    samples.iter().map(|s| i32::from(*s)).collect()
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/formats")
        .join(name)
}

/// File, its format name, and the maximum mean difference of its samples from the original: zero
/// for lossless formats, a little noise for lossy formats.
pub const FORMATS: [(&str, &str, f32); 15] = [
    ("sweep.flac", "flac", 0.0),
    ("sweep24.flac", "flac", 0.0),
    ("sweep.aiff", "aiff", 0.0),
    ("sweep24.aiff", "aiff", 0.0),
    ("sweep_sowt.aifc", "aiff", 0.0),
    ("sweep_alac.m4a", "isomp4", 0.0),
    ("sweep_alaw.wav", "wav a-law", 0.02),
    ("sweep_mulaw.wav", "wav mu-law", 0.02),
    ("sweep.ogg", "ogg", 0.02),
    ("sweep.mp3", "mp3", 0.02),
    ("sweep.m4a", "isomp4", 0.02),
    ("sweep_ima.wav", "wav adpcm", 0.02),
    ("sweep_ms.wav", "wav adpcm", 0.02),
    // The next two formats do not state the number of silent frames in front.
    ("sweep.aac", "aac", 0.02),
    ("sweep_mp3.wav", "wav mp3", 0.02),
];
