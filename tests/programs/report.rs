//! Output of each format for fixed predictions, compared with the files in `tests/snapshots`.
//!
//! `MAEUM_BLESS=1 cargo test --test programs report::` rewrites the snapshots.

use std::path::Path;

use crate::common::{Golden, RESPONSES, all_recordings, legacy2020_dir};
use maeum::formats::{ErrorCode, Format, RecordingError, ReportError, Reporter};
use maeum::model::{FrontEndKind, ModelInfo};
use maeum::nn::DropoutMode;
use maeum::prediction::{
    Age, AgeInterval, Attention, Estimate, Prediction, Segment, Speaker, Voice, Warning, Window,
};
use serde_json::Value;

const FORMATS: [(Format, &str); 10] = [
    (Format::Table, "table.txt"),
    (Format::Json, "json.json"),
    (Format::Jsonl, "jsonl.jsonl"),
    (Format::Csv, "csv.csv"),
    (Format::ExcelCsv, "excel-csv.csv"),
    (Format::Codes, "codes.txt"),
    (Format::TextGrid, "textgrid.TextGrid"),
    (Format::Audacity, "audacity.txt"),
    (Format::Rttm, "rttm.rttm"),
    (Format::Svg, "svg.svg"),
];

fn window(start: f64, attention: Option<Vec<f64>>) -> Window {
    Window {
        time: start..start + 2.0,
        emotions: vec![0.25, 0.125, 0.125, 0.0625, 0.25, 0.0625, 0.125],
        age: Some(28.5),
        gender: vec![0.125, 0.875],
        attention: attention.map(|weights| Attention {
            cell: 0.08,
            weights,
        }),
    }
}

fn prediction() -> Prediction {
    let means = [0.2007, 0.13969, 0.1317, 0.0768, 0.2603, 0.04421, 0.1466];
    Prediction {
        emotions: means
            .iter()
            .enumerate()
            .map(|(i, &mean)| Estimate {
                mean,
                std: 0.01 + i as f64 / 1000.0,
            })
            .collect(),
        age: Age {
            years: 28.785_76,
            spread: Some(1.25),
            error: None,
            interval: None,
        },
        gender: vec![0.000_494_457_7, 0.999_494_6],
        windows: vec![window(0.5, Some(vec![0.5, 0.25, 0.25])), window(1.5, None)],
        segments: Vec::new(),
        speaker: None,
        voice: Voice {
            duration: 4.0,
            sample_rate: 44_100,
            channels: 2,
            channel: None,
            format: "wav pcm 16 bit".into(),
            analysed: 0.5..3.5,
            trimmed: true,
            speech: vec![0.51..1.5, 2.01..3.51],
            voiced: 2.49,
        },
        warnings: Vec::new(),
        dropout: DropoutMode::draws(32, 7),
    }
}

/// Returns a prediction with one window, dropout off and every warning.
fn warned() -> Prediction {
    let plain = prediction();
    Prediction {
        emotions: plain
            .emotions
            .iter()
            .map(|e| Estimate { std: 0.0, ..*e })
            .collect(),
        age: Age {
            years: 61.25,
            spread: Some(0.0),
            error: None,
            interval: None,
        },
        gender: vec![0.75, 0.375],
        windows: plain.windows[..1].to_vec(),
        segments: Vec::new(),
        speaker: None,
        voice: Voice {
            channels: 1,
            channel: None,
            analysed: 0.0..4.0,
            trimmed: false,
            speech: Vec::new(),
            voiced: 0.0,
            ..plain.voice
        },
        warnings: vec![
            Warning::NoVoice,
            Warning::LittleVoice { seconds: 0.5 },
            Warning::Clipped { fraction: 0.0125 },
            Warning::Long { seconds: 20.0 },
            Warning::AgeOutOfRange {
                years: 61.25,
                range: [18.0, 60.0],
            },
            Warning::Truncated,
            Warning::Damaged { packets: 3 },
        ],
        dropout: DropoutMode::Off,
    }
}

/// Returns the prediction of a model that estimates age and gender from the whole recording.
fn of_the_whole() -> Prediction {
    let mut plain = prediction();
    plain.age.spread = None;
    plain.age.error = Some(4.75);
    for window in &mut plain.windows {
        window.age = None;
        window.gender.clear();
    }
    plain
}

/// Returns two segments of speech relative to a speaker, with an age interval.
fn divided() -> Prediction {
    let plain = of_the_whole();
    let age = |years: f64| Age {
        years,
        spread: None,
        error: Some(4.75),
        interval: Some(AgeInterval {
            low: years - 6.5,
            high: years + 8.25,
            coverage: 0.8,
        }),
    };
    let segment = |time: std::ops::Range<f64>, years: f64, windows| Segment {
        voiced: time.end - time.start - 0.25,
        time,
        emotions: plain.emotions.clone(),
        age: age(years),
        gender: vec![0.125, 0.875],
        windows,
    };
    Prediction {
        segments: vec![segment(0.5..1.5, 27.5, 0..1), segment(2.0..3.5, 30.0, 1..2)],
        speaker: Some(Speaker {
            recordings: 10,
            seconds: 31.25,
        }),
        age: age(28.75),
        ..plain
    }
}

/// Returns the description of a model that divides recordings.
fn dividing() -> ModelInfo {
    ModelInfo {
        front_end: Some(FrontEndKind::Utterance),
        ..ModelInfo::legacy2020()
    }
}

/// Returns the complete output for three recordings, or for the first one in a format with one
/// document per recording.
fn render(format: Format) -> String {
    let info = ModelInfo::legacy2020();
    let mut reporter = Reporter::new(format, &info, "0123abcd").unwrap();
    let mut text = reporter.begin();
    text += &reporter.recording("one.wav", Ok(&prediction()));
    if format.is_per_recording() {
        return text + &reporter.end();
    }
    text += &reporter.recording(
        "two, \"odd\".wav",
        Err(&RecordingError::new(
            ErrorCode::Unreadable,
            "two, \"odd\".wav: no such file; check the path",
        )),
    );
    text += &reporter.recording("three.flac", Ok(&warned()));
    text += &reporter.end();
    text
}

fn snapshots() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

fn compare(name: &str, text: &str) {
    let path = snapshots().join(name);
    if std::env::var("MAEUM_BLESS").as_deref() == Ok("1") {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(
        text == wanted,
        "{name} has changed (MAEUM_BLESS=1 accepts it):\n{text}"
    );
}

#[test]
fn every_format_is_as_committed() {
    assert_eq!(FORMATS.map(|f| f.0), Format::ALL);
    for (format, name) in FORMATS {
        compare(name, &render(format));
    }
}

#[test]
fn labels_contain_only_the_windows_estimates() {
    let info = ModelInfo::legacy2020();
    for (format, answer, name) in [
        (Format::TextGrid, of_the_whole(), "whole.TextGrid"),
        (Format::Audacity, of_the_whole(), "whole.txt"),
        (Format::TextGrid, warned(), "warned.TextGrid"),
        (Format::Svg, warned(), "warned.svg"),
    ] {
        let mut reporter = Reporter::new(format, &info, "0123abcd").unwrap();
        let empty = RecordingError::new(ErrorCode::UnusableAudio, "one.wav: empty");
        assert_eq!(reporter.recording("one.wav", Err(&empty)), "");
        compare(name, &reporter.recording("one.wav", Ok(&answer)));
        assert_eq!(reporter.begin() + &reporter.end(), "");
    }
}

#[test]
fn segments_speakers_and_refusals_are_written_in_every_format() {
    let refusal = RecordingError::new(
        ErrorCode::NoSpeech,
        "noise.wav: no speech was found in this recording",
    );
    let write = |format: Format, by_segment: bool| {
        let mut reporter = Reporter::new(format, &dividing(), "0123abcd").unwrap();
        if by_segment {
            reporter = reporter.with_segment_rows();
        }
        let text = reporter.begin() + &reporter.recording("one.wav", Ok(&divided()));
        match format.is_per_recording() {
            true => text,
            false => text + &reporter.recording("noise.wav", Err(&refusal)),
        }
    };
    let table = write(Format::Table, false);
    for line in [
        "\n  age      28.8 years, 22 to 37 for 80 % of speakers, group 20-29\n",
        "\n  speaker  emotions are relative to this speaker's 10 recordings (31 s)\n",
        "\n  segments 0.50 to 1.50 s: neutral 26.0 %, 27.5 years, female 87.5 %\n           \
         2.00 to 3.50 s: neutral 26.0 %, 30.0 years, female 87.5 %\n",
        "\nnoise.wav\n  answer   no speech\n",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let rttm = "SPEAKER one 1 0.500 1.000 <NA> <NA> female 0.8750 <NA>\n\
                SPEAKER one 1 2.000 1.500 <NA> <NA> female 0.8750 <NA>\n";
    assert_eq!(write(Format::Rttm, false), rttm);
    let labels = write(Format::Audacity, false);
    for line in [
        "0.500000\t1.500000\tneutral 0.26, 27.5 years, female 0.88\n",
        "2.000000\t3.500000\tneutral 0.26, 30.0 years, female 0.88\n",
    ] {
        assert!(labels.contains(line), "{labels}");
    }
    let tiers = write(Format::TextGrid, false);
    let segments = tiers.split("name = \"segments\"").nth(1).unwrap();
    assert!(segments.contains("intervals: size = 5"), "{segments}");
    for interval in [
        "[2]:\n            xmin = 0.5 \n            xmax = 1.5 \n            \
         text = \"neutral 0.26, 27.5 years, female 0.88\" \n",
        "[3]:\n            xmin = 1.5 \n            xmax = 2 \n            text = \"\" \n",
    ] {
        assert!(segments.contains(interval), "{segments}");
    }

    let rows = write(Format::Csv, true);
    let rows: Vec<&str> = rows.lines().collect();
    let header = "file,segment,start,end,strongest,anger,";
    assert!(rows[0].starts_with(header), "{}", rows[0]);
    let last = ",warnings,age_low,age_high,speaker_recordings,error_code,error";
    assert!(rows[0].ends_with(last), "{}", rows[0]);
    for (row, start, end) in [
        (rows[1], "one.wav,1,0.5,1.5,neutral,", ",21,35.75,10,,"),
        (rows[2], "one.wav,2,2,3.5,neutral,", ",23.5,38.25,10,,"),
        (
            rows[3],
            "noise.wav,,,,,",
            ",no_speech,noise.wav: no speech was found in this recording",
        ),
    ] {
        assert!(row.starts_with(start) && row.ends_with(end), "{row}");
        assert_eq!(row.split(',').count(), rows[0].split(',').count(), "{row}");
    }
    let plain = write(Format::Csv, false);
    assert_eq!(plain.lines().count(), 3);
    assert!(
        plain.lines().nth(1).unwrap().ends_with(",22.25,37,10,,"),
        "{plain}"
    );

    let lines = write(Format::Jsonl, false);
    let records: Vec<Value> = lines
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let interval = serde_json::json!({"low": 22.25, "high": 37.0, "coverage": 0.8});
    assert_eq!(records[0]["age"]["interval"], interval);
    assert_eq!(records[0]["segments"][1]["start"], 2.0);
    assert_eq!(records[0]["segments"][1]["confidence"], 0.2603);
    let speaker = serde_json::json!({"recordings": 10, "seconds": 31.25});
    assert_eq!(records[0]["speaker"], speaker);
    assert_eq!(records[1]["code"], "no_speech");

    // A line marks the start of the second segment, half way through the 4 s.
    let svg = write(Format::Svg, false);
    assert!(svg.contains("<path class=\"whisker\" d=\"M520.0 "), "{svg}");
}

fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.push(key.clone());
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_name_of_the_json_is_documented() {
    let doc = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let doc = std::fs::read_to_string(doc).unwrap();
    let document: Value = serde_json::from_str(&render(Format::Json)).unwrap();
    let mut found = Vec::new();
    keys(&document, &mut found);
    let mut reporter = Reporter::new(Format::Jsonl, &dividing(), "0123abcd").unwrap();
    let line = reporter.recording("one.wav", Ok(&divided()));
    keys(&serde_json::from_str(&line).unwrap(), &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for key in &found {
        assert!(
            doc.contains(&format!("`{key}`")),
            "docs/json.md lacks {key}"
        );
    }
    let codes = [
        ErrorCode::Unreadable,
        ErrorCode::UnusableAudio,
        ErrorCode::NoSpeech,
        ErrorCode::Internal,
    ];
    let warnings = warned().warnings;
    let warnings = warnings.iter().map(Warning::code);
    for code in warnings.chain(codes.map(ErrorCode::name)) {
        assert!(
            doc.contains(&format!("`{code}`")),
            "docs/json.md lacks {code}"
        );
    }
}

#[test]
fn json_and_jsonl_hold_the_same_records() {
    let document: Value = serde_json::from_str(&render(Format::Json)).unwrap();
    let lines: Vec<Value> = render(Format::Jsonl)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(document["results"], Value::from(lines));
    let info = ModelInfo::legacy2020();
    let reporter = Reporter::new(Format::Json, &info, "").unwrap();
    let nothing: Value = serde_json::from_str(&(reporter.begin() + &reporter.end())).unwrap();
    assert_eq!(nothing, serde_json::json!({"results": []}));
}

#[test]
fn numbers_read_back_exactly() {
    let document: Value = serde_json::from_str(&render(Format::Json)).unwrap();
    let first = &document["results"][0];
    assert_eq!(first["gender"]["male"].as_f64(), Some(0.000_494_457_7));
    assert_eq!(first["emotions"]["sadness"]["mean"].as_f64(), Some(0.04421));
}

#[test]
fn csv_rows_have_as_many_fields_as_the_header() {
    let text = render(Format::Csv);
    let fields = |line: &str| {
        let mut quoted = false;
        let mut count = 1;
        for c in line.chars() {
            match c {
                '"' => quoted = !quoted,
                ',' if !quoted => count += 1,
                _ => {}
            }
        }
        assert!(!quoted, "{line}");
        count
    };
    let counts: Vec<usize> = text.lines().map(fields).collect();
    assert_eq!(counts, [counts[0]; 4], "{text}");
}

#[test]
fn names_are_no_formulas_in_a_spreadsheet_and_numbers_stay_numbers() {
    let info = ModelInfo::legacy2020();
    for format in [Format::Csv, Format::ExcelCsv] {
        let mut reporter = Reporter::new(format, &info, "").unwrap();
        let mut first_cell = |file: &str, outcome: Result<&Prediction, &RecordingError>| {
            let text = reporter.recording(file, outcome);
            let mut reader = csv::ReaderBuilder::new();
            let mut reader = reader.has_headers(false).from_reader(text.as_bytes());
            let record = reader.records().next().unwrap().unwrap();
            record.iter().map(str::to_owned).collect::<Vec<String>>()
        };
        let answer = prediction();
        for name in [
            "=cmd|' /C calc'!A0",
            "+1",
            "-1",
            "@a",
            "\t=1",
            "\r=1",
            "\n=1",
        ] {
            let cells = first_cell(name, Ok(&answer));
            assert_eq!(cells[0], format!("'{name}"));
            let ages = cells.iter().filter(|c| **c == answer.age.years.to_string());
            assert_eq!(ages.count(), 1, "{cells:?}");
            let refusal = RecordingError::new(ErrorCode::Unreadable, "=1+1: no recording");
            let cells = first_cell(name, Err(&refusal));
            assert_eq!(cells[0], format!("'{name}"));
            assert_eq!(cells.last().unwrap(), "'=1+1: no recording");
        }
        assert_eq!(first_cell("-", Ok(&answer))[0], "-");
    }
}

#[test]
fn excel_gets_a_mark_and_its_line_ends_around_the_same_cells() {
    let plain = render(Format::Csv);
    let excel = render(Format::ExcelCsv);
    let excel = excel
        .strip_prefix('\u{FEFF}')
        .expect("the mark comes first");
    assert!(excel.ends_with("\r\n") && !excel.contains('\u{FEFF}'));
    assert_eq!(excel.replace("\r\n", "\n"), plain);
}

#[test]
fn a_number_that_is_not_finite_is_a_failure() {
    let breaks: [fn(&mut Prediction); 8] = [
        |p| {
            p.segments = divided()
                .segments
                .into_iter()
                .map(|s| Segment {
                    voiced: f64::NAN,
                    ..s
                })
                .collect()
        },
        |p| {
            p.age.interval = divided().age.interval.map(|i| AgeInterval {
                high: f64::INFINITY,
                ..i
            })
        },
        |p| {
            p.segments = divided().segments;
            p.segments[1].emotions[0].mean = f64::NAN;
        },
        |p| {
            p.speaker = Some(Speaker {
                recordings: 1,
                seconds: f64::NAN,
            })
        },
        |p| p.emotions[2].std = f64::NAN,
        |p| p.age.years = f64::INFINITY,
        |p| p.windows[0].attention.as_mut().unwrap().weights[1] = f64::NAN,
        |p| p.voice.speech[0].end = f64::NEG_INFINITY,
    ];
    for (format, _) in FORMATS {
        for spoil in breaks {
            let mut broken = prediction();
            spoil(&mut broken);
            let info = ModelInfo::legacy2020();
            let mut reporter = Reporter::new(format, &info, "").unwrap();
            let text = reporter.recording("x.wav", Ok(&broken));
            let silent = format.is_per_recording() || format == Format::Rttm;
            assert_eq!(text.contains("not finite"), !silent, "{text}");
            assert_eq!(text.is_empty(), silent, "{text}");
            assert!(!text.contains("NaN") && !text.contains("null"), "{text}");
        }
    }
}

#[test]
fn labels_must_be_there_and_differ() {
    let with = |change: fn(&mut ModelInfo)| {
        let mut info = ModelInfo::legacy2020();
        change(&mut info);
        info
    };
    for info in [
        with(|i| i.emotions[3] = "joy".into()),
        with(|i| i.genders[0] = "m".into()),
    ] {
        let error = Reporter::new(Format::Codes, &info, "").unwrap_err();
        assert!(matches!(error, ReportError::MissingLabel { .. }), "{error}");
        Reporter::new(Format::Json, &info, "").unwrap();
    }
    let info = with(|i| i.emotions[3] = "anger".into());
    let error = Reporter::new(Format::Json, &info, "").unwrap_err();
    assert!(
        matches!(error, ReportError::RepeatedLabel { .. }),
        "{error}"
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let info = ModelInfo::legacy2020();
    let mut reporter = Reporter::new(Format::Table, &info, "").unwrap();
    let name = "a\u{1b}[2J\n.wav";
    let text = reporter.recording(name, Ok(&prediction()));
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let text = reporter.recording(name, Err(&RecordingError::new(ErrorCode::Unreadable, name)));
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

/// The captured network outputs, formatted as codes, equal the captured responses.
#[test]
fn codes_are_the_captured_responses() {
    let Some(dir) = legacy2020_dir() else { return };
    let info = ModelInfo::legacy2020();
    let scale = info.age.unwrap();
    for name in all_recordings() {
        let mut golden = Golden::open(&dir, name);
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let (_, ages) = golden.get::<f32>("age_crop.output_layer");
        let years = ages
            .iter()
            .map(|&a| f64::from(a) * scale.deviation + scale.mean);
        let (_, genders) = golden.get::<f32>("gender_crop.output_layer");
        let male = genders.chunks(2).map(|g| f64::from(g[0]));
        let answer = Prediction {
            age: Age {
                years: mean(years.collect()),
                spread: None,
                error: None,
                interval: None,
            },
            gender: vec![f64::from(mean(male.collect()) as f32), 0.5],
            ..prediction()
        };
        let mut reporter = Reporter::new(Format::Codes, &info, "").unwrap();
        let text = reporter.recording(name, Ok(&answer));
        let (_, response) = RESPONSES.iter().find(|r| r.0 == name).unwrap();
        assert!(
            text.starts_with(r#"{"10001": 0.0768, "10002": 0.2007, "10003": 0.1397, "#),
            "{text}"
        );
        assert_eq!(
            &text[text.find("\"20000\"").unwrap()..],
            format!("{response}\n")
        );
    }
}
