// Charts over time. Each fills the width of its canvas; all have the same time axis.

import { emotion, number } from './words.js';

// Paul Tol's "bright" scheme, distinguishable with colour blindness; areas also carry their names.
const COLOURS = {
  anger: '#ee6677', disgust: '#228833', fear: '#aa3377', happiness: '#ccbb44',
  neutral: '#bbbbbb', sadness: '#4477aa', surprise: '#66ccee',
};
const OTHERS = Object.values(COLOURS);
const DARK_INK = '#16181d';

export const colour = (name, index) => COLOURS[name] ?? OTHERS[index % OTHERS.length];

function luminance(hex) {
  const channel = i => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

const inkOn = hex => (luminance(hex) > 0.19 ? DARK_INK : '#ffffff');

/** Returns the page's colours in the current colour scheme. */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ['ink', 'muted', 'line', 'card', 'accent', 'faint', 'hatch'].map(n => [n, style.getPropertyValue(`--${n}`).trim()]),
  );
}

const dark = () => matchMedia('(prefers-color-scheme: dark)').matches;

function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const g = canvas.getContext('2d');
  g.scale(scale, scale);
  return { g, width, height };
}

const font = (size, weight = 500) => `${weight} ${size}px Inter, system-ui, sans-serif`;

/** Hatches the time outside the analysed part. */
function hatch(g, width, height, duration, analysed) {
  const x = t => (t / duration) * width;
  for (const [from, to] of [[0, x(analysed.start)], [x(analysed.end), width]]) {
    if (to - from < 0.5) continue;
    g.save();
    g.beginPath();
    g.rect(from, 0, to - from, height);
    g.clip();
    g.strokeStyle = theme().hatch;
    g.lineWidth = 1;
    g.beginPath();
    for (let i = from - height; i < to; i += 7) {
      g.moveTo(i, height);
      g.lineTo(i + height, 0);
    }
    g.stroke();
    g.restore();
  }
}

/** Returns the weights at a time, eased between the window centres, which preserves their sum. */
export function weightsAt(windows, names, time) {
  const middle = w => (w.start + w.end) / 2;
  let next = windows.findIndex(w => middle(w) > time);
  if (next < 0) next = windows.length;
  const a = windows[Math.max(0, next - 1)];
  const b = windows[Math.min(windows.length - 1, next)];
  const linear = a === b ? 0 : (time - middle(a)) / (middle(b) - middle(a));
  const ease = linear * linear * (3 - 2 * linear);
  return names.map(n => a.emotions[n] * (1 - ease) + b.emotions[n] * ease);
}

/** Draws the emotions of the windows as stacked areas. */
export function timeline(canvas, { duration, windows, analysed, names, segments = [] }) {
  const { g, width, height } = prepare(canvas);
  hatch(g, width, height, duration, analysed);
  if (!windows.length) return;
  const foot = 7;
  const tall = height - foot;
  const from = Math.floor((windows[0].start / duration) * width);
  const to = Math.min(width, Math.ceil((Math.min(windows.at(-1).end, duration) / duration) * width));
  const tops = [];
  for (let x = from; x <= to; x++) {
    let y = 0;
    tops.push([0, ...weightsAt(windows, names, (x / width) * duration).map(w => (y += w))]);
  }
  names.forEach((name, i) => {
    g.beginPath();
    tops.forEach((t, k) => g.lineTo(from + k, tall * (1 - t[i + 1])));
    for (let k = tops.length - 1; k >= 0; k--) g.lineTo(from + k, tall * (1 - t0(tops, k, i)));
    g.closePath();
    g.fillStyle = colour(name, i);
    g.fill();
    g.strokeStyle = theme().card;
    g.lineWidth = 1.25;
    g.stroke();
  });
  pauses(g, width, tall, duration, segments);
  g.textAlign = 'center';
  g.textBaseline = 'middle';
  names.forEach((name, i) => nameArea(g, tops, i, from, tall, name));
  g.fillStyle = theme().muted;
  for (const w of windows) {
    const x = (((w.start + w.end) / 2) / duration) * width;
    if (x > to) continue;
    g.beginPath();
    g.moveTo(x, tall + 1);
    g.lineTo(x + 3.5, height);
    g.lineTo(x - 3.5, height);
    g.fill();
  }
}

/** Clears the time between segments, which has no estimates, and draws the segments' edges. */
function pauses(g, width, height, duration, segments) {
  const x = t => (t / duration) * width;
  g.strokeStyle = theme().ink;
  g.lineWidth = 1;
  segments.slice(1).forEach((next, i) => {
    const [from, to] = [x(segments[i].end), x(next.start)];
    if (to > from) g.clearRect(from, 0, to - from, height);
    for (const edge of [from, to]) {
      g.beginPath();
      g.moveTo(edge, 0);
      g.lineTo(edge, height);
      g.stroke();
    }
  });
}

const t0 = (tops, k, i) => tops[k][i];

/** Writes an area's name at its thickest place if it fits there. */
function nameArea(g, tops, i, from, tall, name) {
  const text = emotion(name);
  let best = null;
  for (const size of [15, 12]) {
    g.font = font(size, 600);
    const half = Math.ceil(g.measureText(text).width / 2) + 8;
    for (let k = half; k < tops.length - half; k += 3) {
      let low = -Infinity;
      let high = Infinity;
      for (let j = k - half; j <= k + half; j += 4) {
        low = Math.max(low, tops[j][i]);
        high = Math.min(high, tops[j][i + 1]);
      }
      const room = (high - low) * tall;
      if (room > size + 6 && (!best || room > best.room)) best = { room, size, x: from + k, y: tall * (1 - (low + high) / 2) };
    }
    if (best) break;
  }
  if (!best) return;
  g.font = font(best.size, 600);
  g.fillStyle = inkOn(colour(name, i));
  g.fillText(text, best.x, best.y);
}

/** Draws the waveform as bars around a centre line, in the accent colour for speech. */
export function wave(canvas, { duration, total = duration, peaks, speech, analysed }) {
  const { g, width, height } = prepare(canvas);
  const colours = theme();
  if (analysed) hatch(g, width, height, duration, analysed);
  const step = 3;
  const top = Math.max(0.02, ...peaks);
  const shown = width * (total / duration);
  for (let x = 0; x + 2 <= shown; x += step) {
    const p = peaks[Math.min(peaks.length - 1, Math.floor((x / shown) * peaks.length))] ?? 0;
    const t = ((x + 1) / width) * duration;
    const voiced = speech.some(s => t >= s.start && t < s.end);
    const tall = Math.max(2, (p / top) * (height - 4));
    g.fillStyle = voiced ? colours.accent : colours.faint;
    g.beginPath();
    g.roundRect(x, (height - tall) / 2, 2, tall, 1);
    g.fill();
  }
}

const LIGHT_RAMP = ['#ffffff', '#dfe6f2', '#a5b8dc', '#5f79b8', '#334a92', '#1d1f4f', '#0d0c22'];
const DARK_RAMP = ['#171a20', '#232a4a', '#41418a', '#7a55a6', '#c76a93', '#f2a679', '#fdf0c4'];

function ramp(stops) {
  const rgb = stops.map(s => [1, 3, 5].map(i => parseInt(s.slice(i, i + 2), 16)));
  return Array.from({ length: 256 }, (_, v) => {
    const at = (v / 255) * (rgb.length - 1);
    const i = Math.min(rgb.length - 2, Math.floor(at));
    return [0, 1, 2].map(c => rgb[i][c] + (rgb[i + 1][c] - rgb[i][c]) * (at - i));
  });
}

export function mel(canvas, { columns, bands, cells }, { duration, analysed }) {
  const { g, width, height } = prepare(canvas);
  const colours = ramp(dark() ? DARK_RAMP : LIGHT_RAMP);
  const image = new ImageData(columns, bands);
  for (let c = 0; c < columns; c++) {
    for (let b = 0; b < bands; b++) {
      const [r, green, blue] = colours[Math.round(cells[c * bands + b] * 255)];
      image.data.set([r, green, blue, 255], ((bands - 1 - b) * columns + c) * 4);
    }
  }
  const small = new OffscreenCanvas(columns, bands);
  small.getContext('2d').putImageData(image, 0, 0);
  g.imageSmoothingQuality = 'high';
  g.drawImage(small, 0, 0, width, height);
  hatch(g, width, height, duration, analysed);
}

/** Returns the attention over all windows in steps of about 0.04 s, as multiples of uniform attention. */
export function attentionOver(windows, duration) {
  const cell = windows.find(w => w.attention)?.attention.cell_seconds;
  if (!cell) return null;
  const sum = new Float64Array(Math.ceil(duration / cell));
  const count = new Float64Array(sum.length);
  for (const w of windows) {
    w.attention?.weights.forEach((weight, i) => {
      const k = Math.round(w.start / cell) + i;
      if (k >= sum.length || (i + 0.5) * cell > w.end - w.start) return;
      sum[k] += weight * w.attention.weights.length;
      count[k] += 1;
    });
  }
  return { cell, values: sum.map((s, k) => (count[k] ? s / count[k] : NaN)) };
}

export function attention(canvas, { cell, values }, { duration, analysed }) {
  const { g, width, height } = prepare(canvas);
  const colours = theme();
  hatch(g, width, height, duration, analysed);
  const heard = values.map(v => (Number.isNaN(v) ? 0 : v));
  const top = Math.max(1, ...heard);
  const x = k => (((k + 0.5) * cell) / duration) * width;
  // The square root keeps small values visible.
  const y = k => height - 1.5 - Math.sqrt(heard[k] / top) * (height - 5);
  const end = values.length - 1;
  let last = end;
  while (last > 0 && Number.isNaN(values[last])) last--;
  let first = 0;
  while (first < last && Number.isNaN(values[first])) first++;
  g.beginPath();
  g.moveTo(x(first), height);
  for (let k = first; k <= last; k++) g.lineTo(x(k), y(k));
  g.lineTo(x(last), height);
  g.globalAlpha = 0.18;
  g.fillStyle = colours.accent;
  g.fill();
  g.globalAlpha = 1;
  g.beginPath();
  for (let k = first; k <= last; k++) g.lineTo(x(k), y(k));
  g.strokeStyle = colours.accent;
  g.lineWidth = 1.75;
  g.lineJoin = 'round';
  g.stroke();
}

const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300];

export function axis(canvas, duration) {
  const { g, width, height } = prepare(canvas);
  const step = STEPS.find(s => (s / duration) * width >= 56) ?? 600;
  g.fillStyle = theme().muted;
  g.strokeStyle = theme().line;
  g.font = font(12);
  g.textBaseline = 'bottom';
  for (let i = 0; i * step <= duration; i++) {
    const t = i * step;
    const x = (t / duration) * width;
    g.beginPath();
    g.moveTo(x, 0);
    g.lineTo(x, 5);
    g.stroke();
    const text = t >= 60 ? `${Math.floor(t / 60)}:${String(t % 60).padStart(2, '0')}` : `${number(t, step < 1 ? 1 : 0)} s`;
    const half = g.measureText(text).width / 2;
    if (x + 2 * half > width && i) continue;
    g.textAlign = i ? 'center' : 'left';
    g.fillText(text, x, height);
  }
}
