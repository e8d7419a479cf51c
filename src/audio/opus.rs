//! Opus decoder that outputs 16-bit samples.
//!
//! Sources: RFC 6716 (Opus), RFC 7845 (identification header in Ogg, which Matroska and MP4 share).

use ropus::{Channels, DecodeMode};

use super::error::Fault;

/// Decoder state of an Opus stream.
pub struct Opus {
    decoder: ropus::Decoder,
    channels: usize,
    /// Samples per channel that remain to be skipped at the start of the stream.
    skip: usize,
    samples: Vec<i16>,
}

impl Opus {
    /// Output sample rate in Hz, independent of the rate before encoding.
    pub const RATE: u32 = 48_000;
    /// Samples per channel of the longest packet, 120 ms.
    const LONGEST: usize = 5_760;

    /// Creates the decoder for a stream with this identification header.
    ///
    /// # Errors
    /// If the header is invalid or states more than two channels.
    pub fn new(header: &[u8]) -> Result<Self, Fault> {
        let wrong = || Fault::Damaged("its Opus header makes no sense".into());
        if !header.starts_with(b"OpusHead") || header.len() < 19 {
            return Err(wrong());
        }
        let channels = header[9];
        let layout = match (channels, header[18]) {
            (1, 0 | 1) => Channels::Mono,
            (2, 0 | 1) => Channels::Stereo,
            (0, _) => return Err(Fault::ZeroChannels),
            _ => {
                return Err(Fault::Unsupported(format!(
                    "Opus with {channels} channels (at most 2 can be)"
                )));
            }
        };
        let skip = u16::from_le_bytes([header[10], header[11]]);
        let gain = i16::from_le_bytes([header[16], header[17]]);
        let mut decoder = ropus::Decoder::new(Self::RATE, layout).map_err(|_| wrong())?;
        decoder.set_gain(gain.into()).map_err(|_| wrong())?;
        let channels = usize::from(channels);
        Ok(Self {
            decoder,
            channels,
            skip: skip.into(),
            samples: vec![0; Self::LONGEST * channels],
        })
    }

    /// Returns the number of channels.
    pub fn channels(&self) -> u32 {
        self.channels as u32
    }

    /// Decodes a packet to interleaved samples, without the last `trim` of each channel; `None` if
    /// it cannot be decoded.
    pub fn decode(&mut self, packet: &[u8], trim: u64) -> Option<&[i16]> {
        // The decoder would conceal an empty packet like a lost one.
        if packet.is_empty() {
            return None;
        }
        let decoded = self
            .decoder
            .decode(packet, &mut self.samples, DecodeMode::Normal);
        let frames = decoded.ok()?;
        let start = self.skip.min(frames);
        self.skip -= start;
        let trim = usize::try_from(trim).unwrap_or(usize::MAX);
        let end = frames.saturating_sub(trim).max(start);
        self.samples.get(start * self.channels..end * self.channels)
    }
}
