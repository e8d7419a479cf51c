//! Labels and pictures obey their formats' rules for any prediction and name.

use std::ops::Range;

use maeum::formats::{Format, Reporter};
use maeum::model::{FrontEndKind, Licence, ModelInfo};
use maeum::nn::DropoutMode;
use maeum::prediction::{
    Age, AgeInterval, Attention, Estimate, Prediction, Segment, Speaker, Voice, Warning, Window,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// Returns text with characters that are special in one of the formats.
fn hostile() -> impl Strategy<Value = String> {
    let special = "\"'<>&]]>;\t\n\r\u{0}\u{1b}\u{7f}\u{fffe}\u{ffff}\u{202e} a한é/\\%#";
    let special: Vec<char> = special.chars().collect();
    let character = prop_oneof![prop::sample::select(special), any::<char>()];
    prop::collection::vec(character, 0..20).prop_map(String::from_iter)
}

fn span() -> impl Strategy<Value = Range<f64>> {
    (-3.0..60.0, 0.0..6.0).prop_map(|(start, length)| start..start + length)
}

fn window(emotions: usize) -> impl Strategy<Value = Window> {
    let weights = prop::collection::vec(0.0..1.0, emotions);
    let gender = prop_oneof![Just(Vec::new()), prop::collection::vec(0.0..1.0, 2)];
    let attention = prop::option::of((0.01..0.5, prop::collection::vec(0.0..1.0, 0..30)));
    (
        span(),
        weights,
        prop::option::of(-5.0..120.0),
        gender,
        attention,
    )
        .prop_map(|(time, emotions, age, gender, attention)| Window {
            time,
            emotions,
            age,
            gender,
            attention: attention.map(|(cell, weights)| Attention { cell, weights }),
        })
}

fn estimates(emotions: usize) -> impl Strategy<Value = Vec<Estimate>> {
    let estimate = (0.0..1.0, 0.0..0.5).prop_map(|(mean, std)| Estimate { mean, std });
    prop::collection::vec(estimate, emotions)
}

fn age() -> impl Strategy<Value = Age> {
    let interval = prop::option::of((-5.0..120.0, 0.0..90.0));
    let age = (
        -5.0..120.0,
        prop::option::of(0.0..9.0),
        prop::option::of(0.0..9.0),
    );
    (age, interval).prop_map(|((years, spread, error), interval)| Age {
        years,
        spread,
        error,
        interval: interval.map(|(low, width)| AgeInterval {
            low,
            high: low + width,
            coverage: 0.8,
        }),
    })
}

fn segment(emotions: usize) -> impl Strategy<Value = Segment> {
    let gender = prop::collection::vec(0.0..1.0, 2);
    (span(), 0.0..6.0, estimates(emotions), age(), gender).prop_map(
        |(time, voiced, emotions, age, gender)| Segment {
            time,
            voiced,
            emotions,
            age,
            gender,
            windows: 0..0,
        },
    )
}

/// Returns segments in any order, and a speaker.
fn divided(emotions: usize) -> impl Strategy<Value = (Vec<Segment>, Option<Speaker>)> {
    let speaker = (1..20u32, 0.1..900.0).prop_map(|(recordings, seconds)| Speaker {
        recordings,
        seconds,
    });
    let segments = prop::collection::vec(segment(emotions), 0..6);
    (segments, prop::option::of(speaker))
}

/// Returns a prediction, the model's description and the recording's name.
fn answer() -> impl Strategy<Value = (Prediction, ModelInfo, String)> {
    let labels = prop::collection::btree_set(hostile(), 3..12).prop_shuffle_set();
    (labels, any::<bool>()).prop_flat_map(|(labels, divides)| {
        let emotions = labels.len() - 2;
        let info = ModelInfo {
            emotions: labels[..emotions].to_vec(),
            genders: labels[emotions..].to_vec(),
            licences: vec![Licence {
                estimates: vec![labels[0].clone()],
                licence: labels[1].clone(),
                terms: labels[2].clone(),
            }],
            front_end: Some(match divides {
                true => FrontEndKind::Utterance,
                false => FrontEndKind::Legacy2020,
            }),
            ..ModelInfo::legacy2020()
        };
        (
            estimates(emotions),
            (age(), divided(emotions)),
            prop::collection::vec(0.0..1.0, 2),
            prop::collection::vec(window(emotions), 0..12),
            prop::collection::vec(span(), 0..12),
            (0.05..50.0, span(), hostile()),
            hostile(),
            1..5u32,
        )
            .prop_map(
                move |(emotions, of_age, gender, windows, speech, voice, name, draws)| {
                    let (age, (segments, speaker)) = of_age;
                    let (duration, analysed, format) = voice;
                    let answer = Prediction {
                        emotions,
                        age,
                        gender,
                        segments,
                        windows,
                        speaker,
                        voice: Voice {
                            duration,
                            sample_rate: 16_000,
                            channels: 1,
                            channel: None,
                            format,
                            analysed,
                            trimmed: true,
                            speech,
                            voiced: 1.0,
                        },
                        warnings: vec![Warning::NoVoice],
                        dropout: DropoutMode::draws(draws, 0),
                    };
                    (answer, info.clone(), name)
                },
            )
    })
}

/// Conversion of labels to a list.
trait ShuffleSet {
    fn prop_shuffle_set(self) -> BoxedStrategy<Vec<String>>;
}

impl<S: Strategy<Value = std::collections::BTreeSet<String>> + 'static> ShuffleSet for S {
    fn prop_shuffle_set(self) -> BoxedStrategy<Vec<String>> {
        self.prop_map(Vec::from_iter).prop_shuffle().boxed()
    }
}

fn write(format: Format, answer: &Prediction, info: &ModelInfo, name: &str) -> String {
    let mut reporter = Reporter::new(format, info, "0123abcd").unwrap();
    reporter.recording(name, Ok(answer))
}

/// Name and intervals of a tier.
type Tier = (String, Vec<(f64, f64, String)>);

/// Parses the long text form like Praat: it reads numbers, quoted texts and flags in angle
/// brackets, and skips everything else.
fn read_textgrid(text: &str) -> (f64, f64, Vec<Tier>) {
    enum Word {
        Number(f64),
        Text(String),
        Flag,
    }
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '"' {
            let mut quoted = String::new();
            loop {
                match rest.next().expect("a quoted text ends") {
                    '"' if rest.peek() == Some(&'"') => quoted.push(rest.next().unwrap()),
                    '"' => break,
                    c => quoted.push(c),
                }
            }
            words.push(Word::Text(quoted));
        } else if !c.is_whitespace() {
            let mut word = String::from(c);
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
            if let Ok(number) = word.parse() {
                words.push(Word::Number(number));
            } else if word.starts_with('<') {
                words.push(Word::Flag);
            }
        }
    }
    let mut words = words.into_iter();
    let text = |words: &mut dyn Iterator<Item = Word>| match words.next() {
        Some(Word::Text(text)) => text,
        _ => panic!("a text was expected"),
    };
    let number = |words: &mut dyn Iterator<Item = Word>| match words.next() {
        Some(Word::Number(number)) => number,
        _ => panic!("a number was expected"),
    };
    assert_eq!(text(&mut words), "ooTextFile");
    assert_eq!(text(&mut words), "TextGrid");
    let (start, end) = (number(&mut words), number(&mut words));
    assert!(matches!(words.next(), Some(Word::Flag)));
    let tiers = (0..number(&mut words) as usize).map(|_| {
        assert_eq!(text(&mut words), "IntervalTier");
        let name = text(&mut words);
        assert_eq!((number(&mut words), number(&mut words)), (start, end));
        let count = number(&mut words) as usize;
        let intervals = (0..count).map(|_| {
            let (from, to) = (number(&mut words), number(&mut words));
            (from, to, text(&mut words))
        });
        (name, intervals.collect())
    });
    let tiers = tiers.collect();
    assert!(words.next().is_none(), "something follows the last tier");
    (start, end, tiers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn textgrid_tiers_cover_the_recording((answer, info, name) in answer()) {
        let (start, end, tiers) = read_textgrid(&write(Format::TextGrid, &answer, &info, &name));
        prop_assert_eq!((start, end), (0.0, answer.voice.duration));
        prop_assert_eq!(&*tiers[0].0, "speech");
        for (name, intervals) in &tiers {
            prop_assert!(!intervals.is_empty(), "{}", name);
            let mut at = 0.0;
            for (from, to, _) in intervals {
                prop_assert_eq!(*from, at);
                prop_assert!(from < to, "{} {} {}", name, from, to);
                at = *to;
            }
            prop_assert_eq!(at, end);
        }
        for (from, to, label) in &tiers[0].1 {
            let middle = f64::midpoint(*from, *to);
            let heard = answer.voice.speech.iter().any(|s| s.contains(&middle));
            prop_assert_eq!(&**label, if heard { "speech" } else { "silence" });
        }
    }

    #[test]
    fn audacity_labels_are_in_order((answer, info, name) in answer()) {
        let text = write(Format::Audacity, &answer, &info, &name);
        let mut last = 0.0;
        for line in text.split_terminator('\n') {
            let fields: Vec<&str> = line.split('\t').collect();
            prop_assert_eq!(fields.len(), 3, "{:?}", line);
            let (start, end): (f64, f64) = (fields[0].parse().unwrap(), fields[1].parse().unwrap());
            prop_assert!(last <= start && start <= end, "{}", text);
            // Times have six decimal places.
            prop_assert!(end <= answer.voice.duration + 1e-6, "{}", text);
            last = start;
        }
        prop_assert!(text.lines().count() > answer.windows.len());
    }

    #[test]
    fn rttm_lines_have_ten_fields((answer, info, name) in answer()) {
        let text = write(Format::Rttm, &answer, &info, &name);
        let mut last = 0.0;
        for line in text.split_terminator('\n') {
            let fields: Vec<&str> = line.split(' ').collect();
            prop_assert_eq!(fields.len(), 10, "{:?}", line);
            prop_assert_eq!(line.split_whitespace().count(), 10, "{:?}", line);
            prop_assert!(!line.contains('"'), "{}", line);
            for (field, wanted) in [(0, "SPEAKER"), (2, "1"), (5, "<NA>"), (6, "<NA>"), (9, "<NA>")] {
                prop_assert_eq!(fields[field], wanted);
            }
            let (start, duration): (f64, f64) = (fields[3].parse().unwrap(), fields[4].parse().unwrap());
            let sure: f64 = fields[8].parse().unwrap();
            prop_assert!(start >= last && duration > 0.0 && (0.0..=1.0).contains(&sure), "{}", line);
            // Start and duration are each rounded to three decimal places.
            prop_assert!(start + duration <= answer.voice.duration + 1e-3, "{}", line);
            last = start;
        }
    }

    #[test]
    fn svg_is_well_formed_and_keeps_to_itself((answer, info, name) in answer()) {
        let text = write(Format::Svg, &answer, &info, &name);
        let document = roxmltree::Document::parse(&text).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?;
        let root = document.root_element();
        prop_assert_eq!(root.attribute("role"), Some("img"));
        let children: Vec<&str> = root.children().filter(|n| n.is_element()).map(|n| n.tag_name().name()).collect();
        prop_assert_eq!(&children[..3], ["title", "desc", "style"]);
        let known = ["svg", "title", "desc", "style", "rect", "path", "text"];
        for node in document.descendants().filter(|n| n.is_element()) {
            prop_assert!(known.contains(&node.tag_name().name()), "{:?}", node);
            for attribute in node.attributes() {
                let allowed = ["class", "role", "viewBox", "width", "height", "x", "y", "d", "text-anchor"];
                prop_assert!(allowed.contains(&attribute.name()), "{:?}", node);
                if ["x", "y", "width", "height"].contains(&attribute.name()) {
                    let number: f64 = attribute.value().parse().unwrap();
                    prop_assert!((0.0..10_000.0).contains(&number), "{:?}", attribute);
                }
                prop_assert!(attribute.name() != "d" || !attribute.value().contains(['N', 'i']));
            }
        }
        let style = document.descendants().find(|n| n.has_tag_name(("http://www.w3.org/2000/svg", "style")));
        let style = style.and_then(|n| n.text()).unwrap();
        prop_assert!(!style.contains("url(") && !style.contains("@import"));
        // Characters that change the text direction must be escaped.
        let turns = |c: char| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let shown = |c: char| match c {
            c if turns(c) => c.escape_unicode().to_string(),
            c if c.is_control() || ['\u{fffe}', '\u{ffff}'].contains(&c) => '\u{fffd}'.to_string(),
            c => c.to_string(),
        };
        let name: String = name.chars().map(shown).collect();
        prop_assert_eq!(root.first_element_child().unwrap().text().unwrap(), format!("Voice-based estimate for {name}"));
    }
}

#[test]
fn every_format_is_documented() {
    let doc = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats.md");
    let doc = std::fs::read_to_string(doc).unwrap();
    for format in Format::ALL {
        let media_type = format.media_type().split(';').next().unwrap();
        let row = doc
            .lines()
            .find(|l| l.starts_with(&format!("| `{format}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/formats.md lacks {format}"));
        let end = format!("| `.{}` | `{media_type}` |", format.extension());
        assert!(row.ends_with(&end), "{row}");
        assert_eq!(row.contains("| one |"), format.is_per_recording(), "{row}");
    }
}

#[test]
fn recordings_of_the_same_name_stay_apart_in_one_rttm() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut answer, info, _) = answer().new_tree(&mut runner).unwrap().current();
    answer.voice.speech = vec![0.0..answer.voice.duration];
    let mut reporter = Reporter::new(Format::Rttm, &info, "").unwrap();
    let mut text = reporter.begin();
    for name in ["a/talk one.wav", "b/talk one.wav", "b/talk one.wav"] {
        text += &reporter.recording(name, Ok(&answer));
    }
    text += &reporter.end();
    let ids: Vec<&str> = text.lines().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert_eq!(ids, ["talk_one", "talk_one.wav", "b/talk_one.wav"]);
}

/// Hours of audio result in a picture of bounded size.
#[test]
fn a_long_recording_gives_a_small_picture() {
    let seconds = 20_000;
    let windows = (0..seconds - 1).map(|i| Window {
        time: f64::from(i)..f64::from(i) + 2.0,
        emotions: vec![1.0, f64::from(i % 7), 0.5, 0.0, 0.25, 1.0, 0.125],
        age: None,
        gender: Vec::new(),
        attention: Some(Attention {
            cell: 0.25,
            weights: vec![0.125; 8],
        }),
    });
    let estimate = Estimate {
        mean: 0.125,
        std: 0.0,
    };
    let answer = Prediction {
        emotions: vec![estimate; 7],
        age: Age {
            years: 40.0,
            spread: None,
            error: None,
            interval: None,
        },
        gender: vec![0.5, 0.5],
        segments: Vec::new(),
        windows: windows.collect(),
        speaker: None,
        voice: Voice {
            duration: f64::from(seconds),
            sample_rate: 16_000,
            channels: 1,
            channel: None,
            format: "wav".into(),
            analysed: 0.0..f64::from(seconds),
            trimmed: false,
            speech: vec![1.0..2.0],
            voiced: 1.0,
        },
        warnings: Vec::new(),
        dropout: DropoutMode::Off,
    };
    let info = ModelInfo::legacy2020();
    let text = write(Format::Svg, &answer, &info, "long.wav");
    assert!(text.len() < 300_000, "{}", text.len());
    assert!(text.contains("5:00:00"));
}
