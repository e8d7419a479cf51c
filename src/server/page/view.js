// Rendering of a result into the document, as text only: no markup is parsed.

import * as charts from './charts.js';
import { clock, emotion, gender, language, number, percent, words } from './words.js';

export const $ = id => document.getElementById(id);

/** Range of the age scale, in years. */
const AGES = [10, 80];
/** Maximum number of rows in the table of levels. */
const LEVELS = 60;

function make(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

const value = (x, text) => make('data', { value: String(x), textContent: text });

function bar(name, shown, weight, colour, std = 0, first = false) {
  const fill = make('span', { className: 'fill' });
  fill.style.width = percentOf(weight);
  fill.style.background = colour;
  const groove = make('span', { className: 'groove', ariaHidden: 'true' }, fill);
  if (std > 0) {
    const whisker = make('span', { className: 'whisker' });
    whisker.style.left = percentOf(Math.max(0, weight - std));
    whisker.style.width = percentOf(Math.min(1, weight + std) - Math.max(0, weight - std));
    groove.append(whisker);
  }
  const text = std > 0 ? `${percent(weight)} ± ${number(std * 100)}` : percent(weight);
  const row = make('div', { className: first ? 'bar first' : 'bar' },
    make('span', { className: 'name', textContent: shown }), groove,
    make('span', { className: 'value' }, value(weight, text)));
  row.dataset.name = name;
  return row;
}

const percentOf = x => `${(x * 100).toFixed(2)}%`;

function table(head, rows) {
  const cells = (row, tag) => row.map((c, i) => {
    const cell = make(i === 0 && tag === 'td' ? 'th' : tag, { textContent: c });
    cell.scope = tag === 'th' ? 'col' : i === 0 ? 'row' : '';
    return cell;
  });
  return make('table', {},
    make('thead', {}, make('tr', {}, ...cells(head, 'th'))),
    make('tbody', {}, ...rows.map(r => make('tr', {}, ...cells(r, 'td')))));
}

/** Returns the emotions, the largest weight first. */
const ranked = record => Object.entries(record.emotions).sort((a, b) => b[1].mean - a[1].mean);

export function emotionBars(record) {
  const names = Object.keys(record.emotions);
  return ranked(record).map(([name, { mean, std }], i) =>
    bar(name, emotion(name), mean, charts.colour(name, names.indexOf(name)), std, i === 0));
}

function summary({ record, seed }) {
  const w = words();
  const strongest = record.emotions[record.strongest];
  $('hero-word').textContent = emotion(record.strongest);
  $('hero-value').value = String(strongest.mean);
  $('hero-value').textContent = percent(strongest.mean, 0);
  const { voice, age, dropout } = record;
  const rate = `${number(voice.sample_rate / 1000)} kHz`;
  $('hero-file').textContent = w.file(record.file, voice.format, rate, number(voice.duration));
  const { speaker } = record;
  $('speaker-hint').hidden = !speaker;
  $('speaker-hint').textContent = speaker ? w.relative(speaker.recordings, number(speaker.seconds, 0)) : '';
  $('bars').classList.toggle('drawn', dropout.mode === 'draws');
  $('bars').replaceChildren(...emotionBars(record));
  $('uncertainty').textContent = dropout.mode === 'draws' ? w.uncertainty(dropout.draws, seed) : w.certain;
  $('emotion-table').replaceChildren(table([w.emotion, w.mean, w.spread],
    ranked(record).map(([name, { mean, std }]) => [emotion(name), percent(mean, 2), dropout.mode === 'draws' ? percent(std, 2) : '–'])));

  $('age-value').value = String(age.years);
  $('age-value').textContent = number(age.years, 0);
  $('age-unit').textContent = age.typical_error === null ? w.years : `± ${number(age.typical_error)} ${w.years}`;
  const at = years => percentOf(Math.max(0, Math.min(1, (years - AGES[0]) / (AGES[1] - AGES[0]))));
  $('age-point').style.left = at(age.years);
  const error = age.typical_error ?? 0;
  const { low, high } = age.interval ?? { low: age.years - error, high: age.years + error };
  $('age-range').style.left = at(low);
  $('age-range').style.right = `calc(100% - ${at(high)})`;
  $('age-ticks').replaceChildren(...[10, 20, 30, 40, 50, 60, 70, 80].map(y => make('span', { textContent: y })));
  const lines = [
    w.ageGroup(w.groups[age.group] ?? age.group),
    age.typical_error === null ? w.ageNoError : w.ageError(number(age.typical_error)),
  ];
  if (age.interval) lines.push(w.ageInterval(number(Math.max(0, low), 0), number(high, 0), percent(age.interval.coverage, 0)));
  if (age.spread !== null && age.spread > 0) lines.push(w.ageSpread(number(age.spread)));
  $('age-hint').textContent = lines.join(' ');

  const tints = ['var(--accent)', 'var(--edge)'];
  const genders = Object.entries(record.gender);
  const most = Math.max(...genders.map(([, v]) => v));
  $('gender-bars').replaceChildren(...genders.map(([n, v], i) => bar(n, gender(n), v, tints[i % 2], 0, v === most)));
  $('warnings').replaceChildren(...record.warnings.map(({ code, message }) =>
    make('p', { textContent: w.warnings[code] ?? message, lang: code in w.warnings ? language() : 'en' })));
}

function tables({ record, picture }) {
  const w = words();
  const names = Object.keys(record.emotions);
  const peak = ({ start, attention }) => {
    if (!attention) return '–';
    const top = attention.weights.indexOf(Math.max(...attention.weights));
    return `${number(start + (top + 0.5) * attention.cell_seconds, 2)} s`;
  };
  $('timeline-table').replaceChildren(table(
    [`${w.from} (s)`, `${w.to} (s)`, ...names.map(emotion), w.peakAttention],
    record.timeline.map(win => [number(win.start, 2), number(win.end, 2), ...names.map(n => percent(win.emotions[n])), peak(win)])));
  $('segment-details').hidden = record.segments.length < 2;
  $('segment-table').replaceChildren(table(
    [`${w.from} (s)`, `${w.to} (s)`, w.emotion, w.mean, `${w.age} (${w.years})`, w.gender],
    record.segments.map(s => {
      const [sounds] = Object.entries(s.gender).reduce((a, b) => (b[1] > a[1] ? b : a));
      return [number(s.start, 2), number(s.end, 2), emotion(s.strongest), percent(s.confidence), number(s.age.years, 0), gender(sounds)];
    })));
  const { voice } = record;
  const { analysed } = voice;
  const parts = [[w.whole, 0, voice.duration], [w.analysed, analysed.start, analysed.end]];
  if (analysed.start > 0) parts.push([w.trimmed, 0, analysed.start]);
  if (analysed.end < voice.duration) parts.push([w.trimmed, analysed.end, voice.duration]);
  for (const s of voice.speech) parts.push([w.speech, s.start, s.end]);
  $('voice-table').replaceChildren(table([w.part, `${w.from} (s)`, `${w.to} (s)`],
    parts.map(([n, a, b]) => [n, number(a, 2), number(b, 2)])));
  $('sound-details').hidden = !picture;
  if (picture) $('sound-table').replaceChildren(table([`${w.from} (s)`, w.loudness, w.brightness], levels(picture)));
}

/** Returns the waveform and spectrogram as table rows. */
function levels({ peaks, mel, duration }) {
  const rows = Math.max(1, Math.min(LEVELS, Math.ceil(duration * 4)));
  const part = (length, r) => [Math.floor((r * length) / rows), Math.max(Math.floor((r * length) / rows) + 1, Math.floor(((r + 1) * length) / rows))];
  return Array.from({ length: rows }, (_, r) => {
    const top = Math.max(1e-5, ...peaks.slice(...part(peaks.length, r)));
    const sums = new Float64Array(mel.bands);
    const [from, to] = part(mel.columns, r);
    for (let c = from; c < Math.min(to, mel.columns); c++) {
      for (let b = 0; b < mel.bands; b++) sums[b] += mel.cells[c * mel.bands + b];
    }
    const band = sums.indexOf(Math.max(...sums));
    const loudest = sums[band] > 0 ? number(mel.hertz(band), 0) : '–';
    return [number((r * duration) / rows, 2), number(20 * Math.log10(top)), loudest];
  });
}

/** Draws the parts that depend on width, colours and language. */
export function draw({ record, picture }) {
  const w = words();
  const names = Object.keys(record.emotions);
  const { duration, analysed, speech, voiced } = record.voice;
  const frame = { duration, analysed };
  const windows = record.timeline;
  charts.timeline($('timeline'), { ...frame, windows, names, segments: record.segments });
  const strongest = win => emotion(names.reduce((a, b) => (win.emotions[b] > win.emotions[a] ? b : a)));
  $('timeline').ariaLabel = w.timelineAlt(windows.length, windows.slice(0, 20).map(strongest).join(', '));
  for (const id of ['wave-figure', 'mel-figure']) $(id).hidden = !picture;
  if (picture) {
    charts.wave($('wave'), { ...frame, peaks: picture.peaks, speech });
    $('wave').ariaLabel = w.waveAlt(number(duration), number(voiced));
    charts.mel($('mel'), picture.mel, frame);
    $('mel').ariaLabel = w.melAlt;
  }
  const over = charts.attentionOver(windows, duration);
  $('attention-figure').hidden = !over;
  if (over) {
    charts.attention($('attention'), over, frame);
    const top = over.values.reduce((best, v, k) => (v > (over.values[best] || 0) ? k : best), 0);
    $('attention').ariaLabel = w.attentionAlt(number((top + 0.5) * over.cell, 2));
  }
  charts.axis($('axis'), duration);
}

/** Shows a result. */
export function show(answer) {
  const w = words();
  summary(answer);
  tables(answer);
  $('time-hint').textContent = w.timeHint;
  $('no-picture').hidden = Boolean(answer.picture);
  for (const e of [$('play'), $('seek')]) e.disabled = !answer.picture;
  draw(answer);
}

/** Shows the terms of use. */
export function terms({ notice, licences, name, sha256 }) {
  const w = words();
  const said = (e, known, text) => Object.assign(e, { textContent: known[text] ?? text, lang: text in known ? language() : 'en' });
  said($('notice'), w.notices, notice);
  const kinds = { emotion: w.emotion, age: w.age, gender: w.gender };
  const entries = licences.flatMap(l => [
    make('dt', { textContent: `${l.estimates.map(e => kinds[e] ?? e).join(', ')}: ${l.licence}` }),
    said(make('dd'), w.conditions, l.terms),
  ]);
  $('licences').replaceChildren(...(entries.length ? entries : [make('dt', { textContent: w.noLicences })]));
  $('model').textContent = w.modelName(name, sha256.slice(0, 16));
}

/** Shows one download button per format, and one for a recording made on this page. */
export function downloads(formats, recorded, take) {
  const w = words();
  const item = (format, title, text) => {
    const button = make('button', { type: 'button' }, make('b', { textContent: title }), make('span', { textContent: text }));
    button.dataset.format = format;
    button.addEventListener('click', () => take(format, button));
    return make('li', {}, button);
  };
  const items = formats.map(f => item(f, f, w.formats[f] ?? ''));
  if (recorded) items.push(item('wav', 'wav', w.recordingFile));
  $('downloads').replaceChildren(...items);
}

/** Shows the strongest emotions at a time. */
export function moment({ record }, time) {
  const names = Object.keys(record.emotions);
  const { start, end } = record.voice.analysed;
  const parts = [clock(time, 1)];
  const windows = record.timeline;
  if (windows.length && time >= start && time <= Math.min(end, windows.at(-1).end)) {
    const weights = charts.weightsAt(windows, names, time);
    const order = names.map((n, i) => [n, weights[i]]).sort((a, b) => b[1] - a[1]);
    for (const [n, v] of order.slice(0, 2)) parts.push(`${emotion(n)} ${percent(v, 0)}`);
  }
  $('moment').textContent = parts.join(' · ');
}

/** Shows an error with its remedy; `seconds` is the time until a retry is possible, `retry` repeats the request if that may succeed. */
export function failed({ title, detail, seconds, retry }) {
  const w = words();
  const box = $('error');
  const text = make('div', {}, make('strong', { textContent: title }));
  if (detail) text.append(make('span', { className: 'hint', textContent: detail, lang: 'en' }));
  box.replaceChildren(text);
  if (retry) {
    const button = make('button', { type: 'button', className: 'button' });
    button.id = 'retry';
    button.disabled = seconds > 0;
    button.textContent = seconds > 0 ? w.retryIn(seconds) : w.retry;
    button.addEventListener('click', retry);
    box.append(button);
  }
  box.hidden = false;
}
