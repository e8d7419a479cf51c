// Decoding of audio files, and the peaks and mel spectrogram for the charts.

const RATE = 48000;
const MEL_TOP = 8000;
const MEL_BANDS = 80;
const MEL_COLUMNS = 1200;
// Dynamic range in dB below the loudest cell; softer cells are drawn as silence.
const MEL_RANGE = 75;

/** Decodes a file for the charts and the player only: the server has its own decoder. */
export async function decode(bytes) {
  return new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
}

/** Returns the mean of all channels. */
export function mono(buffer) {
  const out = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < out.length; i++) out[i] += channel[i] / buffer.numberOfChannels;
  }
  return out;
}

/** Returns the largest magnitude in each of `count` equal parts. */
export function peaks(samples, count) {
  const out = new Float32Array(count);
  for (let p = 0; p < count; p++) {
    const from = Math.floor((p * samples.length) / count);
    const to = Math.max(from + 1, Math.floor(((p + 1) * samples.length) / count));
    let top = 0;
    for (let i = from; i < to && i < samples.length; i++) top = Math.max(top, Math.abs(samples[i]));
    out[p] = top;
  }
  return out;
}

/** Rounds samples to 16 bits. */
export function quantise(samples) {
  return Int16Array.from(samples, x => Math.round(Math.max(-1, Math.min(1, x)) * 32767));
}

/** Returns a WAV file of 16-bit mono samples. */
export function wav(blocks, rate) {
  const bytes = blocks.reduce((n, b) => n + b.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, s) => [...s].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF');
  head.setUint32(4, 36 + bytes, true);
  text(8, 'WAVEfmt ');
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * 2, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, 'data');
  head.setUint32(40, bytes, true);
  return new Blob([head, ...blocks], { type: 'audio/wav' });
}

/** Computes an in-place radix-2 FFT; the length is a power of two. */
function fft(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    const cos = Math.cos((-2 * Math.PI) / size);
    const sin = Math.sin((-2 * Math.PI) / size);
    for (let start = 0; start < n; start += size) {
      let wr = 1;
      let wi = 0;
      for (let k = start; k < start + half; k++) {
        const r = re[k + half] * wr - im[k + half] * wi;
        const i = re[k + half] * wi + im[k + half] * wr;
        re[k + half] = re[k] - r;
        im[k + half] = im[k] - i;
        re[k] += r;
        im[k] += i;
        [wr, wi] = [wr * cos - wi * sin, wr * sin + wi * cos];
      }
    }
  }
}

// O'Shaughnessy's formula, 1987.
const toMel = hz => 2595 * Math.log10(1 + hz / 700);
const toHz = mel => 700 * (10 ** (mel / 2595) - 1);

/** Returns triangular filters as lists of [bin, weight]. */
function filters(size, rate) {
  const top = toMel(Math.min(MEL_TOP, rate / 2));
  const edge = i => toHz((top * i) / (MEL_BANDS + 1));
  return Array.from({ length: MEL_BANDS }, (_, b) => {
    const [low, middle, high] = [edge(b), edge(b + 1), edge(b + 2)];
    const taps = [];
    for (let k = Math.ceil((low * size) / rate); (k * rate) / size < high; k++) {
      const hz = (k * rate) / size;
      const weight = hz < middle ? (hz - low) / (middle - low) : (high - hz) / (high - middle);
      if (weight > 0) taps.push([k, weight]);
    }
    // A band narrower than a bin has the nearest bin.
    return taps.length ? taps : [[Math.round((middle * size) / rate), 1]];
  });
}

/** Returns the mel spectrogram: `columns` x `bands` values from 0 (silence) to 1 (loudest cell); `hertz` is a band's centre. */
export function mel(samples, rate) {
  const size = 2 ** Math.round(Math.log2(rate * 0.032));
  const hop = Math.max(Math.round(rate * 0.008), Math.ceil(samples.length / MEL_COLUMNS));
  const columns = Math.max(1, Math.floor(samples.length / hop));
  const bank = filters(size, rate);
  const window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
  const power = new Float64Array(size / 2 + 1);
  const re = new Float64Array(size);
  const im = new Float64Array(size);
  const cells = new Float32Array(columns * MEL_BANDS);
  let loudest = -Infinity;
  for (let c = 0; c < columns; c++) {
    const start = Math.round((c + 0.5) * hop - size / 2);
    for (let i = 0; i < size; i++) {
      re[i] = (samples[start + i] ?? 0) * window[i];
      im[i] = 0;
    }
    fft(re, im);
    for (let k = 0; k < power.length; k++) power[k] = re[k] * re[k] + im[k] * im[k];
    for (let b = 0; b < MEL_BANDS; b++) {
      let sum = 1e-12;
      for (const [k, weight] of bank[b]) sum += weight * power[k];
      const db = 10 * Math.log10(sum);
      cells[c * MEL_BANDS + b] = db;
      loudest = Math.max(loudest, db);
    }
  }
  for (let i = 0; i < cells.length; i++) {
    cells[i] = Math.max(0, 1 + (cells[i] - loudest) / MEL_RANGE);
  }
  const step = toMel(Math.min(MEL_TOP, rate / 2)) / (MEL_BANDS + 1);
  return { columns, bands: MEL_BANDS, cells, hertz: band => toHz(step * (band + 1)) };
}
