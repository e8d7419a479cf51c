// The page: accepts or records a file, sends it to the server and shows the result.

import * as api from './api.js';
import * as charts from './charts.js';
import { Player } from './player.js';
import { Recorder } from './recorder.js';
import { decode, mel, mono, peaks } from './sound.js';
import * as view from './view.js';
import { clock, emotion, number, percent, speak, words } from './words.js';

const { $ } = view;
/** Limits until the server's own are loaded. */
const LIMITS = { body_bytes: 25 << 20, audio_seconds: 600, formats: ['json', 'csv'] };
const EXTENSIONS = { table: 'table.txt', codes: 'codes.json', textgrid: 'TextGrid', audacity: 'labels.txt' };
const PEAKS = 2000;
/** Minimum time span of the live charts, in seconds. */
const LIVE = 15;
/** Maximum number of recordings in a profile; more improve it little. */
const PROFILED = 10;

/** `session` holds the recognised recordings with speech, the newest first. */
const state = { session: [], count: 0, profiles: new Map(), model: null, answer: null, status: null, error: null, recorder: null, live: null, abort: null };

const limits = () => state.model?.limits ?? LIMITS;
const megabytes = () => Math.round(limits().body_bytes / 2 ** 20);

function say(key, ...values) {
  state.status = key && [key, values];
  const word = words()[key];
  $('status').textContent = !key ? '' : typeof word === 'function' ? word(...values) : word;
}

function busy(is) {
  document.body.classList.toggle('busy', is);
}

/** Shows an error; `code` is the server's or the page's own, `retry` repeats the request if that may succeed. */
function fail(error, retry) {
  busy(false);
  say(null);
  clearInterval(state.error?.timer);
  state.error = { error, retry, until: Date.now() + 1000 * (error.retryAfter ?? 0) };
  if (error.status === 401) $('key-form').hidden = false;
  renderError();
  if (error.retryAfter) {
    state.error.timer = setInterval(() => {
      renderError();
      if (Date.now() >= state.error.until) clearInterval(state.error.timer);
    }, 1000);
  }
}

function renderError() {
  if (!state.error) return void ($('error').hidden = true);
  const { error, retry, until } = state.error;
  const { errors } = words();
  const values = { too_large: megabytes(), too_long: limits().audio_seconds };
  const code = error.status === 401 && api.hasKey() ? 'wrong_key' : error.code;
  const word = errors[code] ?? errors.other;
  const title = typeof word === 'function' ? word(values[code]) : word;
  const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
  // The server's message is hidden where it only repeats the title.
  const detail = ['busy', 'too_large', 'unauthorized'].includes(error.code) ? '' : error.message;
  view.failed({ title, detail, seconds, retry });
}

function clear() {
  state.abort?.abort();
  clearInterval(state.error?.timer);
  state.error = null;
  renderError();
}

const pageError = code => new api.Refused(0, code, '');

async function picture(file) {
  try {
    const buffer = await decode(await file.arrayBuffer());
    const samples = mono(buffer);
    return { buffer, duration: buffer.duration, peaks: peaks(samples, PEAKS), mel: mel(samples, buffer.sampleRate) };
  } catch {
    return null;
  }
}

/** Returns the seed as text, because it may exceed the range of JavaScript's numbers. */
const seedOf = text => text.match(/"dropout":\s*\{"mode":\s*"draws",\s*"draws":\s*\d+,\s*"seed":\s*(\d+)/)?.[1];

/** Compares two files, because a user may choose the same one twice. */
const isSame = (a, b) =>
  a === b || (a.name === b.name && a.size === b.size && a.lastModified === b.lastModified && a.lastModified !== undefined);

/** Returns the recordings for the profile of `file`: the newest other ones that fit into one request. */
function profileRecordings(file) {
  if (!$('same').checked) return [];
  let bytes = 64 << 10;
  let seconds = 0;
  return state.session.filter(r => !file || !isSame(r.file, file)).slice(0, PROFILED).filter(r => {
    bytes += r.file.size;
    seconds += r.seconds;
    return bytes <= limits().body_bytes && seconds <= limits().audio_seconds;
  });
}

/** Returns the profile of the speaker of the session's other recordings, cached in memory; `null` without any. */
async function profileFor(file, signal) {
  const recordings = profileRecordings(file);
  if (!recordings.length) return null;
  const key = recordings.map(r => r.id).join();
  if (!state.profiles.has(key)) state.profiles.set(key, await api.profile(recordings, signal));
  return state.profiles.get(key);
}

function addToSession(file, name, record) {
  if (!record.voice.speech.length || state.session.some(r => isSame(r.file, file))) return;
  state.session.unshift({ file, name, seconds: record.voice.duration, id: ++state.count });
  state.session.length = Math.min(state.session.length, PROFILED + 1);
}

async function analyse(file, name, given = null) {
  clear();
  const abort = (state.abort = new AbortController());
  const again = () => analyse(file, name);
  if (file.size > limits().body_bytes) return fail(pageError('too_large'));
  busy(true);
  say('listening', name);
  try {
    const profile = given ? given.profile : await profileFor(file, abort.signal);
    const [answered, drawn] = await Promise.all([
      given ?? api.recognise(file, name, 'json', abort.signal, profile).then((answer) => answer.text()).then((text) => ({ record: JSON.parse(text).results[0], seed: seedOf(text) })),
      picture(file),
    ]);
    if (abort.signal.aborted) return;
    addToSession(file, name, answered.record);
    accept({ ...answered, profile, picture: drawn, file, name, recorded: given !== null || name === recordingName() });
  } catch (error) {
    if (error.name === 'AbortError' || abort.signal.aborted) return;
    // A file that is deleted after its selection also fails with status 0.
    const worth = error.status === 0 || error.status === 401 || error.status === 408 || error.status === 429 || error.status >= 500;
    fail(error instanceof api.Refused ? error : pageError('other'), worth ? again : null);
  }
}

function accept(answer) {
  state.answer = answer;
  busy(false);
  const { record } = answer;
  $('result').hidden = false;
  document.body.classList.add('has-result');
  $('seek').max = String(record.voice.duration);
  player.load(answer.picture?.buffer ?? null);
  render();
  say('done', emotion(record.strongest), percent(record.emotions[record.strongest].mean, 0), number(record.age.years, 0));
  $('result').focus({ preventScroll: true });
}

async function download(format, button) {
  const { file, name, profile } = state.answer;
  const stem = name.replace(/\.[^.]*$/, '') || 'recording';
  button.disabled = true;
  try {
    if (format === 'wav') return save(file, `${stem}.wav`);
    save(await api.recognise(file, name, format, undefined, profile), `${stem}.${EXTENSIONS[format] ?? format}`);
  } catch (error) {
    fail(error instanceof api.Refused ? error : pageError('other'), () => { clear(); download(format, button); });
  } finally {
    button.disabled = false;
  }
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement('a'), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const player = new Player((time, playing) => {
  const duration = state.answer?.record.voice.duration ?? 0;
  $('seek').value = String(time);
  const spoken = `${clock(time, 1)} / ${clock(duration, 1)}`;
  $('seek').setAttribute('aria-valuetext', spoken);
  $('clock').textContent = spoken;
  $('cursor').style.left = `${duration ? (time / duration) * 100 : 0}%`;
  if ($('play').dataset.playing !== String(playing)) labelPlay(playing);
  if (state.answer) view.moment(state.answer, time);
});

function labelPlay(playing) {
  $('play').dataset.playing = String(playing);
  $('play').ariaLabel = playing ? words().pause : words().play;
  $('play-shape').setAttribute('d', playing ? 'M5 4h3.5v12H5zM11.5 4H15v12h-3.5z' : 'M6 3.5v13l11-6.5z');
}

/** Updates the whole page after a change of result, language, width or colours. */
function render() {
  const w = words();
  $('drop-hint').textContent = w.dropHint(megabytes(), limits().audio_seconds);
  $('record-text').textContent = state.answer?.recorded ? w.recordAgain : w.record;
  labelPlay(player.playing);
  if (state.model) view.terms(state.model);
  $('same-row').hidden = !state.model?.speaker_profiles;
  if (state.answer) {
    view.show(state.answer);
    view.moment(state.answer, player.position());
    view.downloads(limits().formats, state.answer.recorded, download);
  }
  if (state.live) drawLive();
}

// Microphone.

const recordingName = () => 'recording.wav';

async function record() {
  clear();
  player.pause();
  if (!navigator.mediaDevices || !window.AudioWorkletNode) return fail(pageError('microphone_insecure'));
  say('starting');
  $('record').disabled = true;
  let profile = null;
  try {
    profile = await profileFor(null);
  } catch (error) {
    $('record').disabled = false;
    return fail(error instanceof api.Refused ? error : pageError('other'), record);
  }
  const live = (state.live = { peaks: [], seconds: 0, windows: [], record: null, level: 0 });
  state.recorder = new Recorder(recordingName(), limits().audio_seconds, profile, {
    level(peak, seconds) {
      live.peaks.push(peak);
      Object.assign(live, { seconds, level: Math.max(peak, live.level * 0.8) });
    },
    interim(message) {
      if (!message.result) return;
      live.record = message.result;
      const windows = message.result.timeline;
      // Newer results replace earlier results of the same seconds.
      const kept = live.windows.filter(w => windows.length && w.start < windows[0].start - 0.5);
      live.windows = [...kept, ...windows];
    },
    ended: () => stop(),
  });
  try {
    await state.recorder.start();
  } catch (error) {
    const codes = { NotAllowedError: 'microphone_denied', NotFoundError: 'microphone_missing' };
    state.recorder = state.live = null;
    $('record').disabled = false;
    return fail(pageError(codes[error.name] ?? 'microphone_failed'));
  }
  say('recordingStatus');
  document.body.classList.add('recording');
  $('result').hidden = true;
  $('live').hidden = false;
  $('stop').disabled = false;
  $('stop').focus({ preventScroll: true });
  const frame = () => {
    if (!state.live) return;
    drawLive();
    requestAnimationFrame(frame);
  };
  frame();
}

function drawLive() {
  const { live } = state;
  $('live-clock').textContent = clock(live.seconds, 1);
  // The meter covers -60 dB to full scale.
  const level = live.level > 0 ? Math.max(0, 1 + (20 * Math.log10(live.level)) / 60) : 0;
  $('live-level').style.transform = `scaleX(${Math.min(1, level)})`;
  const duration = Math.max(LIVE, live.seconds);
  const { record } = live;
  const frame = { duration, analysed: { start: 0, end: duration } };
  charts.wave($('live-wave'), { ...frame, total: live.seconds, peaks: live.peaks, speech: record?.voice.speech ?? [], analysed: null });
  if (live.drawn === record && live.width === innerWidth && live.words === words() && live.span === duration) return;
  Object.assign(live, { drawn: record, width: innerWidth, words: words(), span: duration });
  charts.axis($('live-axis'), duration);
  $('live-word').textContent = record ? emotion(record.strongest) : words().wait;
  $('live-bars').replaceChildren(...(record ? view.emotionBars(record) : []));
  const names = record ? Object.keys(record.emotions) : [];
  charts.timeline($('live-timeline'), { ...frame, windows: live.windows, names });
  $('live-timeline').ariaLabel = words().live(number(live.seconds, 0));
}

async function stop() {
  const { recorder } = state;
  if (!recorder) return;
  state.recorder = null;
  $('stop').disabled = true;
  busy(true);
  say('finishing');
  const { file, final } = await recorder.stop();
  state.live = null;
  $('live').hidden = true;
  $('record').disabled = false;
  document.body.classList.remove('recording');
  $('result').hidden = !state.answer;
  const { frames } = recorder;
  if (!frames) return fail(pageError('nothing_recorded'));
  const name = recordingName();
  if (final?.type === 'final' && final.result) {
    return analyse(file, name, { record: final.result, seed: seedOf(final.text), profile: recorder.profile });
  }
  const refused = final?.error;
  if (refused) return fail(new api.Refused(422, refused.code, refused.message));
  // The stream failed or could not be opened, so the samples are sent as a file.
  return analyse(file, name);
}

// Event handlers.

async function introduce() {
  try {
    state.model = await api.model();
    $('key-form').hidden = true;
    render();
  } catch (error) {
    fail(error, () => { clear(); introduce(); });
  }
}

function choose(files) {
  if (state.recorder || !files.length) return;
  if (files.length > 1) return fail(pageError('one_file'));
  analyse(files[0], files[0].name);
}

$('file').addEventListener('change', ({ target }) => {
  choose([...target.files]);
  // An empty value makes choosing the same file again a change.
  target.value = '';
});
$('same').addEventListener('change', () => {
  state.profiles.clear();
  // The profile setting changes the result of the current recording.
  if (state.answer && !state.recorder) analyse(state.answer.file, state.answer.name);
});
$('record').addEventListener('click', record);
$('stop').addEventListener('click', stop);
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  document.addEventListener(name, event => {
    event.preventDefault();
    const inside = name === 'dragenter' || name === 'dragover' || (name === 'dragleave' && event.relatedTarget);
    $('drop').classList.toggle('over', Boolean(inside));
    if (name === 'drop') choose([...event.dataTransfer.files]);
  });
}
$('key-form').addEventListener('submit', event => {
  event.preventDefault();
  api.setKey($('key').value);
  const retry = state.error?.retry;
  clear();
  if (state.model && retry) retry();
  else introduce();
});
for (const button of document.querySelectorAll('[data-language]')) {
  button.addEventListener('click', () => {
    speak(button.dataset.language);
    render();
    renderError();
    if (state.status) say(state.status[0], ...state.status[1]);
  });
}
$('play').addEventListener('click', () => (player.playing ? player.pause() : player.play()));
$('seek').addEventListener('input', ({ target }) => player.seek(Number(target.value)));
$('tracks').addEventListener('click', event => {
  const box = $('tracks').getBoundingClientRect();
  player.seek(((event.clientX - box.left) / box.width) * state.answer.record.voice.duration);
  player.play();
});
$('tracks').addEventListener('pointermove', event => {
  const box = $('tracks').getBoundingClientRect();
  if (state.answer && !player.playing) view.moment(state.answer, ((event.clientX - box.left) / box.width) * state.answer.record.voice.duration);
});
new ResizeObserver(() => state.answer && !$('result').hidden && view.draw(state.answer)).observe($('tracks'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', render);

speak();
render();
introduce();
