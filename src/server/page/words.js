// Texts of the page in English and Korean.

import { LOCAL } from './api.js';

const EN = {
  skip: 'Skip to the content', site: 'Site', language: 'Language', docs: 'API',
  title: 'How does this voice sound?',
  lead: 'Give it a recording. It estimates which emotion the voice carries, how old the speaker sounds and which gender, second by second, and says how sure it is.',
  choose: 'Choose a recording', record: 'Record', recordAgain: 'Record again', stop: 'Stop and analyse',
  dropHint: (mb, s) => `or drop a file here · WAV, FLAC, MP3, AAC, Ogg Vorbis, Opus, AIFF, M4A, WebM · up to ${mb} MB and ${s} s`,
  same: 'These recordings are of the same person',
  sameHint: 'Emotions are then estimated relative to how this person usually sounds in the other recordings given here. The profile stays in this page’s memory and is gone when you close it.',
  relative: (n, s) => `Emotions are relative to this person’s ${n} other ${n === 1 ? 'recording' : 'recordings'} (${s} s of speech).`,
  keyLabel: 'This server asks for a key', keyUse: 'Use this key',
  listening: name => `Listening to ${name} …`,
  done: (word, value, age) => `Done. Strongest emotion: ${word}, ${value}. The voice sounds ${age} years old.`,
  recording: 'Recording', recordingStatus: 'Recording. Results on the way are shown below.',
  starting: 'Waiting for the microphone …', finishing: 'Analysing the whole recording …',
  interim: 'So far · voice-based estimate',
  interimHint: 'Results on the way are about the last 15 seconds at most and are not final. The last result is about the whole recording.',
  wait: 'Listening …', live: s => `Emotions in the recording so far, ${s} seconds`,
  estimate: 'voice-based estimate',
  emotion: 'Emotion', age: 'Age', gender: 'Gender', years: 'years',
  asTable: 'As a table',
  mean: 'Weight', spread: '± of one draw',
  uncertainty: (n, seed) => `The lines show ± one standard deviation of a single draw (${n} random draws, seed ${seed}).`,
  certain: 'This model answers without random draws, so there is no ± to show. The weights themselves say how sure it is: an even spread means that it cannot tell.',
  ageError: y => `± ${y} years is the typical error with unknown speakers.`,
  ageInterval: (low, high, share) => `${low} to ${high} years for ${share} of speakers.`,
  ageNoError: 'The model states no typical error.',
  ageGroup: g => `Age group: ${g}.`, ageSpread: y => `Spread over the windows: ${y} years.`,
  groups: { 'under 20': 'under 20', '20-29': '20 to 29', '30-39': '30 to 39', '40+': '40 and more' },
  genderHint: 'Two independent weights: how the voice sounds to the model. They say nothing about anyone’s identity.',
  overTime: 'Over time', position: 'Playback position', play: 'Play', pause: 'Pause',
  timeline: 'Emotions in windows of time', waveform: 'Waveform', spectrogram: 'Mel spectrogram', attention: 'Attention',
  voiced: 'counted as speech', trimmed: 'not analysed',
  melRange: '0 to 8 kHz', attentionHint: 'Weights of the emotion network over time',
  timeHint: 'Each window is estimated by itself, without the network that reads the whole recording: it can differ from the answer above. Between the marks, which are the middles of the windows, the picture is interpolated. Click to listen from there.',
  noPicture: 'This browser cannot decode this kind of file, so there is no waveform, no spectrogram and no playback. The estimates are complete: the server decodes for itself.',
  timelineTable: 'Emotions and attention as a table', segmentTable: 'Each stretch of speech by itself, as a table', voiceTable: 'Speech and trimmed parts as a table', soundTable: 'Loudness over time as a table',
  from: 'From', to: 'To', part: 'Part', whole: 'Recording', analysed: 'Analysed', speech: 'Speech',
  peakAttention: 'Most attention at', loudness: 'Level (dB below full scale)', brightness: 'Loudest frequency (Hz)',
  timelineAlt: (n, list) => `Stacked areas of the emotions in ${n} windows. Strongest per window: ${list}. A table follows.`,
  waveAlt: (d, v) => `Waveform of ${d} seconds, of which ${v} seconds count as speech. A table follows.`,
  melAlt: 'Mel spectrogram from 0 to 8 kilohertz. A table of levels follows.',
  attentionAlt: t => `Attention over time; most at ${t} seconds. A table follows.`,
  file: (name, format, rate, d) => `${name} · ${format} · ${rate} · ${d} s`,
  downloads: 'Take it with you', recordingFile: 'The recording itself',
  formats: {
    json: 'Everything, for programs', jsonl: 'The same in one line', csv: 'One row, for spreadsheets',
    codes: 'The object of the system of 2020', table: 'For people, as text', textgrid: 'Tiers for Praat and ELAN',
    audacity: 'Label track for Audacity', rttm: 'Stretches of speech', svg: 'A picture of the answer',
  },
  terms: 'What this must not be used for',
  noticeLong: 'These are estimates of how a recording sounds to a model. They are not facts about a person, and not about what someone feels. Do not decide about people with them: no hiring, policing, insurance, credit, diagnosis or lie detection.',
  noticeLaw: 'In the European Union, inferring people’s emotions at work or in education is prohibited (AI Act, Art. 5(1)(f), with exceptions for medical and safety reasons). Elsewhere, people who are exposed to emotion recognition must be told (Art. 50(3)).',
  licences: 'Terms of the estimates', noLicences: 'This model states no terms.', modelName: (name, hash) => `Model: ${name} · ${hash}`,
  privacy: 'The recording goes to the server that this page came from and nowhere else. It is held in memory until it is answered and is written nowhere.',
  emotions: { anger: 'anger', disgust: 'disgust', fear: 'fear', happiness: 'happiness', neutral: 'neutral', sadness: 'sadness', surprise: 'surprise' },
  genders: { male: 'male', female: 'female' },
  notices: {}, conditions: {},
  warnings: {},
  retry: 'Try again', retryIn: s => `Try again in ${s} s`,
  errors: {
    offline: 'The server cannot be reached. Is it still running? Nothing was lost here: try again when it is back.',
    busy: 'The server has all the work it can take at the moment.',
    too_large: mb => `The file is larger than the ${mb} MB that this server takes. Choose a shorter recording, or compress it (FLAC, MP3).`,
    too_long: s => `The recording is longer than the ${s} seconds that this server takes. Cut it into parts.`,
    unusable_audio: 'This recording cannot be used.',
    no_speech: 'No speech was found in this recording.',
    bad_profile: 'The server does not take this speaker profile. Load the page again.',
    unauthorized: 'This server asks for a key. Enter it and try again.',
    wrong_key: 'The server does not accept this key.',
    microphone_denied: 'The microphone may not be used. Allow it for this page in the browser’s settings, then record again.',
    microphone_missing: 'No microphone was found. Connect one, or choose a file.',
    microphone_insecure: 'Browsers lend the microphone to pages on localhost or over https only. Choose a file instead.',
    microphone_failed: 'The microphone cannot be used. Another program may hold it.',
    nothing_recorded: 'Nothing was recorded. Record at least a second.',
    one_file: 'One recording at a time, please.',
    other: 'The server did not answer this request.',
  },
  /** Texts of the page without a server. */
  local: {
    noPicture: 'This browser cannot decode this kind of file, so there is no waveform, no spectrogram and no playback. The estimates are complete: the recogniser decodes for itself.',
    privacy: 'The recording stays in this page. It is recognised on this device, is sent nowhere and is gone when you close the page: the browser forbids this page every connection. The page also works without a network.',
    errors: {
      too_large: mb => `The file is larger than ${mb} MB. Choose a shorter recording, or compress it (FLAC, MP3).`,
      too_long: s => `The recording is longer than ${s} seconds. Cut it into parts.`,
      bad_profile: 'The profile of these recordings cannot be used. Load the page again.',
      crashed: 'The recogniser failed on this recording and was started again. Other recordings can be used.',
      out_of_memory: 'This device has no memory for this recording. Choose a shorter one.',
      other: 'This recording could not be recognised.',
    },
  },
};

const KO = {
  skip: '본문으로 건너뛰기', site: '사이트', language: '언어', docs: 'API',
  title: '이 목소리는 어떻게 들리나요?',
  lead: '녹음을 주세요. 목소리에 담긴 감정, 들리는 나이와 성별을 시간에 따라 추정하고, 얼마나 확실한지도 알려 줍니다.',
  choose: '녹음 파일 선택', record: '녹음하기', recordAgain: '다시 녹음하기', stop: '멈추고 분석',
  dropHint: (mb, s) => `또는 여기에 파일을 끌어 놓으세요 · WAV, FLAC, MP3, AAC, Ogg Vorbis, Opus, AIFF, M4A, WebM · 최대 ${mb} MB, ${s}초`,
  same: '같은 사람의 녹음입니다',
  sameHint: '그러면 여기에 준 다른 녹음을 바탕으로, 이 사람이 평소 말하는 소리와의 차이로 감정을 듣습니다. 프로필은 이 페이지의 메모리에만 있으며 닫으면 사라집니다.',
  relative: (n, s) => `감정은 이 사람의 다른 녹음 ${n}개(말소리 ${s}초)에 견준 것입니다.`,
  keyLabel: '이 서버는 키가 필요합니다', keyUse: '이 키 사용',
  listening: name => `${name} 듣는 중 …`,
  done: (word, value, age) => `완료. 가장 강한 감정: ${word}, ${value}. 목소리는 ${age}세로 들립니다.`,
  recording: '녹음 중', recordingStatus: '녹음 중입니다. 중간 결과가 아래에 표시됩니다.',
  starting: '마이크를 기다리는 중 …', finishing: '전체 녹음을 분석하는 중 …',
  interim: '지금까지 · 음성 기반 추정',
  interimHint: '중간 결과는 길어야 마지막 15초에 대한 것이며 확정된 것이 아닙니다. 마지막 결과는 녹음 전체에 대한 것입니다.',
  wait: '듣는 중 …', live: s => `지금까지 ${s}초 녹음의 감정`,
  estimate: '음성 기반 추정',
  emotion: '감정', age: '나이', gender: '성별', years: '세',
  asTable: '표로 보기',
  mean: '비중', spread: '한 번 추출의 ±',
  uncertainty: (n, seed) => `선은 한 번 추출의 표준편차(±)입니다 (무작위 추출 ${n}회, 시드 ${seed}).`,
  certain: '이 모델은 무작위 추출 없이 답하므로 ±가 없습니다. 확실한 정도는 비중에 나타납니다. 비중이 고르면 구별하지 못한다는 뜻입니다.',
  ageError: y => `모르는 화자에 대한 평균적인 오차는 ±${y}세입니다.`,
  ageInterval: (low, high, share) => `화자의 ${share}에서 ${low}–${high}세.`,
  ageNoError: '모델에 평균 오차가 적혀 있지 않습니다.',
  ageGroup: g => `연령대: ${g}.`, ageSpread: y => `구간 사이의 편차: ${y}세.`,
  groups: { 'under 20': '20세 미만', '20-29': '20–29세', '30-39': '30–39세', '40+': '40세 이상' },
  genderHint: '서로 독립된 두 비중으로, 목소리가 모델에 어떻게 들리는지만 나타냅니다. 누구의 정체성에 대해서도 말하지 않습니다.',
  overTime: '시간에 따라', position: '재생 위치', play: '재생', pause: '일시 정지',
  timeline: '시간 구간별 감정', waveform: '파형', spectrogram: '멜 스펙트로그램', attention: '주의',
  voiced: '말소리로 들린 부분', trimmed: '분석하지 않은 부분',
  melRange: '0–8 kHz', attentionHint: '감정 신경망이 주목한 곳',
  timeHint: '각 구간은 녹음 전체를 듣는 신경망을 더하기 전에 따로 판단한 것이어서 위의 답과 다를 수 있습니다. 표시는 구간의 가운데이며, 그 사이는 보간한 것입니다. 누르면 그곳부터 들을 수 있습니다.',
  noPicture: '이 브라우저가 해독할 수 없는 형식이라 파형, 스펙트로그램, 재생이 없습니다. 해독은 서버가 따로 하므로 추정은 완전합니다.',
  timelineTable: '감정과 주의를 표로 보기', segmentTable: '말소리 구간별 답을 표로 보기', voiceTable: '말소리와 잘라 낸 부분을 표로 보기', soundTable: '시간별 소리 크기를 표로 보기',
  from: '시작', to: '끝', part: '부분', whole: '녹음', analysed: '분석한 부분', speech: '말소리',
  peakAttention: '가장 주목한 때', loudness: '레벨 (최대치 기준 dB)', brightness: '가장 큰 주파수 (Hz)',
  timelineAlt: (n, list) => `${n}개 구간의 감정을 쌓은 면적 그래프. 구간별 가장 강한 감정: ${list}. 아래에 표가 있습니다.`,
  waveAlt: (d, v) => `${d}초의 파형. 그중 ${v}초가 말소리로 들렸습니다. 아래에 표가 있습니다.`,
  melAlt: '0에서 8킬로헤르츠까지의 멜 스펙트로그램. 아래에 레벨 표가 있습니다.',
  attentionAlt: t => `시간에 따른 주의. 가장 큰 때는 ${t}초. 아래에 표가 있습니다.`,
  file: (name, format, rate, d) => `${name} · ${format} · ${rate} · ${d}초`,
  downloads: '내려받기', recordingFile: '녹음 자체',
  formats: {
    json: '모든 내용, 프로그램용', jsonl: '같은 내용을 한 줄로', csv: '한 행, 스프레드시트용',
    codes: '2020년 시스템의 객체', table: '사람이 읽는 텍스트', textgrid: 'Praat·ELAN용 층',
    audacity: 'Audacity용 라벨 트랙', rttm: '말소리 구간', svg: '답을 그린 그림',
  },
  terms: '이런 데에 쓰면 안 됩니다',
  noticeLong: '이것은 녹음이 모델에 어떻게 들리는지에 대한 추정입니다. 사람에 대한 사실도, 누군가의 실제 느낌도 아닙니다. 채용, 치안, 보험, 신용, 진단, 거짓말 탐지 등 사람에 대한 결정에 쓰지 마십시오.',
  noticeLaw: '유럽연합에서는 직장과 교육기관에서 사람의 감정을 추론하는 것이 금지되어 있습니다 (AI법 제5조 제1항 (f), 의료·안전 목적은 예외). 그 밖의 경우 감정 인식의 대상이 되는 사람에게 알려야 합니다 (제50조 제3항).',
  licences: '추정의 이용 조건', noLicences: '이 모델에는 이용 조건이 적혀 있지 않습니다.', modelName: (name, hash) => `모델: ${name} · ${hash}`,
  privacy: '녹음은 이 페이지를 보낸 서버로만 전송됩니다. 답할 때까지 메모리에만 있으며 어디에도 기록되지 않습니다.',
  emotions: { anger: '분노', disgust: '혐오', fear: '두려움', happiness: '행복', neutral: '중립', sadness: '슬픔', surprise: '놀람' },
  genders: { male: '남성', female: '여성' },
  notices: {
    'A voice-based estimate of how a recording sounds; not to be used for decisions about people.':
      '녹음이 어떻게 들리는지에 대한 음성 기반 추정입니다. 사람에 대한 결정에 쓰면 안 됩니다.',
  },
  conditions: { 'non-commercial use only': '비상업적 용도로만', 'any use with attribution': '출처를 밝히면 모든 용도' },
  warnings: {
    no_voice: '말소리로 들린 부분이 없습니다. 답은 들리는 소리에 대한 것입니다.',
    little_voice: '말소리가 1초 정도보다 짧습니다.',
    clipped: '많은 표본이 최대치에 닿아 소리가 찌그러져 있습니다.',
    long: '15초보다 깁니다. 나이, 성별, 시간 구간은 처음 15초에 대한 것입니다.',
    unsure: '모델이 확신하지 못합니다. 두드러진 감정이 없습니다.',
    age_out_of_range: '추정한 나이가 모델이 다루는 범위를 벗어납니다.',
    truncated: '파일이 중간에 끊겨 있습니다. 있는 부분만 분석했습니다.',
    damaged: '압축 파일의 일부를 해독할 수 없었습니다.',
  },
  retry: '다시 시도', retryIn: s => `${s}초 뒤에 다시 시도`,
  errors: {
    offline: '서버에 연결할 수 없습니다. 서버가 실행 중인가요? 여기 있는 것은 그대로이니, 서버가 돌아오면 다시 시도하세요.',
    busy: '지금은 서버가 더 받을 수 없을 만큼 바쁩니다.',
    too_large: mb => `이 서버가 받는 ${mb} MB보다 큰 파일입니다. 더 짧은 녹음을 고르거나 압축하세요 (FLAC, MP3).`,
    too_long: s => `이 서버가 받는 ${s}초보다 긴 녹음입니다. 나누어 보내세요.`,
    unusable_audio: '이 녹음은 쓸 수 없습니다.',
    no_speech: '이 녹음에서 말소리를 찾지 못했습니다.',
    bad_profile: '서버가 이 화자 프로필을 받지 않습니다. 페이지를 새로 여세요.',
    unauthorized: '이 서버는 키가 필요합니다. 입력하고 다시 시도하세요.',
    wrong_key: '서버가 이 키를 받아들이지 않습니다.',
    microphone_denied: '마이크를 쓸 수 없습니다. 브라우저 설정에서 이 페이지에 허용한 뒤 다시 녹음하세요.',
    microphone_missing: '마이크를 찾지 못했습니다. 연결하거나 파일을 고르세요.',
    microphone_insecure: '브라우저는 localhost나 https 페이지에서만 마이크를 허용합니다. 대신 파일을 고르세요.',
    microphone_failed: '마이크를 쓸 수 없습니다. 다른 프로그램이 쓰고 있을 수 있습니다.',
    nothing_recorded: '녹음된 것이 없습니다. 1초 이상 녹음하세요.',
    one_file: '한 번에 녹음 하나만 주세요.',
    other: '서버가 이 요청에 답하지 않았습니다.',
  },
  local: {
    noPicture: '이 브라우저가 해독할 수 없는 형식이라 파형, 스펙트로그램, 재생이 없습니다. 해독은 인식기가 따로 하므로 추정은 완전합니다.',
    privacy: '녹음은 이 페이지를 떠나지 않습니다. 이 기기에서 인식하며 어디로도 전송하지 않고, 페이지를 닫으면 사라집니다. 브라우저가 이 페이지의 모든 연결을 막습니다. 네트워크 없이도 쓸 수 있습니다.',
    errors: {
      too_large: mb => `${mb} MB보다 큰 파일입니다. 더 짧은 녹음을 고르거나 압축하세요 (FLAC, MP3).`,
      too_long: s => `${s}초보다 긴 녹음입니다. 나누어 주세요.`,
      bad_profile: '이 녹음들의 프로필을 쓸 수 없습니다. 페이지를 새로 여세요.',
      crashed: '인식기가 이 녹음에서 멈추어 다시 시작했습니다. 다른 녹음은 쓸 수 있습니다.',
      out_of_memory: '이 녹음을 다룰 메모리가 이 기기에 없습니다. 더 짧은 녹음을 고르세요.',
      other: '이 녹음을 인식하지 못했습니다.',
    },
  },
};

/** Texts by language code. */
export const ALL = { en: EN, ko: KO };
let now = (navigator.languages ?? [navigator.language]).map(l => l.slice(0, 2)).find(l => l in ALL) ?? 'en';

export const language = () => now;
const merged = ({ local, ...common }) => ({ ...common, ...local, errors: { ...common.errors, ...local.errors } });
const SPOKEN = Object.fromEntries(Object.entries(ALL).map(([code, all]) => [code, LOCAL ? merged(all) : all]));
export const words = () => SPOKEN[now];

/** Selects a language and fills the document's texts. */
export function speak(chosen = now) {
  now = chosen;
  const w = words();
  document.documentElement.lang = now;
  document.title = `maeum · ${w.title}`;
  for (const e of document.querySelectorAll('[data-text]')) e.textContent = w[e.dataset.text];
  for (const e of document.querySelectorAll('[data-label]')) e.setAttribute('aria-label', w[e.dataset.label]);
  for (const e of document.querySelectorAll('[data-language]')) {
    e.setAttribute('aria-pressed', String(e.dataset.language === now));
  }
}

/** Returns the translated label of the model, or the label itself if it is unknown. */
export const emotion = name => words().emotions[name] ?? name;
export const gender = name => words().genders[name] ?? name;

export const percent = (x, digits = 1) =>
  new Intl.NumberFormat(now, { style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits }).format(x);
export const number = (x, digits = 1) =>
  new Intl.NumberFormat(now, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(x);

/** Formats seconds as minutes and seconds. */
export function clock(seconds, digits = 0) {
  const unit = 10 ** digits;
  const all = Math.floor(seconds * unit + 1e-6);
  const rest = (all % (60 * unit)) / unit;
  return `${Math.floor(all / (60 * unit))}:${rest.toFixed(digits).padStart(digits ? 3 + digits : 2, '0')}`;
}
