//! Inputs to begin with: files of the tests, and what is made here.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the repository.
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The fuzzer's package lies in a folder of it.
    match package.join("targets/mod.rs").is_file() {
        true => package.parent().expect("not the root"),
        false => package,
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

fn text(seeds: &[&str]) -> Seeds {
    let numbered = seeds.iter().enumerate();
    numbered
        .map(|(i, text)| (format!("made_{i:02}"), text.as_bytes().to_vec()))
        .collect()
}

/// The files of a folder with one of these endings, of at most this size.
fn files(folder: &str, endings: &[&str], largest: usize) -> Seeds {
    let folder = repository().join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|p| {
            p.extension()
                .is_some_and(|e| endings.iter().any(|w| e == *w))
        })
        .collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths
        .iter()
        .map(|path| (name(path), fs::read(path).unwrap()))
        .filter(|(_, bytes)| bytes.len() <= largest)
        .collect()
}

/// A WAV file with this format chunk and data chunk.
fn wav_file(format: &[u8], data: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8], content: &[u8]| {
        [name, &(content.len() as u32).to_le_bytes(), content].concat()
    };
    let chunks = [b"WAVE", &chunk(b"fmt ", format)[..], &chunk(b"data", data)].concat();
    chunk(b"RIFF", &chunks)
}

fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let align = channels * bits.div_ceil(8);
    let mut bytes = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend((16_000 * u32::from(align)).to_le_bytes());
    bytes.extend(align.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes
}

/// Small files of every width and encoding.
pub fn wav() -> Seeds {
    let data: Vec<u8> = (0..96u8).map(|i| i.wrapping_mul(37)).collect();
    let floats: Vec<u8> = (0..24)
        .flat_map(|i| (i as f32 / 24.0 - 0.5).to_le_bytes())
        .collect();
    let mut seeds = Vec::new();
    for (tag, channels, bits) in [
        (1, 1, 8),
        (1, 1, 16),
        (1, 2, 16),
        (1, 1, 24),
        (1, 3, 24),
        (1, 1, 32),
        (3, 1, 32),
        (3, 1, 64),
        (6, 1, 8),
        (7, 2, 8),
    ] {
        let data = if tag == 3 { &floats } else { &data };
        let name = format!("{tag}_{channels}_{bits}");
        seeds.push((name.clone(), wav_file(&format(tag, channels, bits), data)));
        // The extensible form: the valid bits, the speakers and the encoding's name.
        let mut wide = format(0xFFFE, channels, bits);
        wide.extend(22u16.to_le_bytes());
        wide.extend(bits.to_le_bytes());
        wide.extend(4u32.to_le_bytes());
        wide.extend(tag.to_le_bytes());
        wide.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
        seeds.push((format!("wide_{name}"), wav_file(&wide, data)));
    }
    let one = wav_file(&format(1, 1, 16), &data);
    seeds.push(("twice".into(), [&one[..], &one].concat()));
    let mut unknown = one.clone();
    unknown[40..44].fill(0xFF);
    seeds.push(("endless".into(), unknown));
    seeds
}

/// A sound in every container, and files of several parts or with tags.
pub fn audio() -> Seeds {
    let endings = [
        "aac", "aiff", "aifc", "flac", "m4a", "mp3", "ogg", "opus", "wav", "webm",
    ];
    let mut seeds = files("tests/data/formats", &endings, 1 << 14);
    for (name, bytes) in seeds.clone() {
        if ["sweep.mp3", "sweep.ogg", "sweep.opus", "sweep.flac"].contains(&&*name) {
            // Enough for the start of everything, and quickly tried.
            let head = bytes[..bytes.len().min(1500)].to_vec();
            seeds.push((format!("twice_{name}"), [&head[..], &head].concat()));
            let tag = b"ID3\x04\0\0\0\0\0\x15TIT2\0\0\0\x0b\0\0\0RIFF\0\0\0\0WAVE";
            seeds.push((format!("tagged_{name}"), [&tag[..], &head].concat()));
            seeds.push((format!("cut_{name}"), head));
        }
    }
    seeds
}

/// Returns a small bundle, its document alone, and truncated copies.
pub fn bundle() -> Seeds {
    use super::models::small;
    let bytes = &*small::SINGLE;
    let (header, _) = small::split(bytes);
    let document = header["__metadata__"][maeum::model::bundle::METADATA_KEY].clone();
    vec![
        ("single".into(), bytes.clone()),
        ("cut".into(), bytes[..bytes.len() / 2].to_vec()),
        ("document".into(), document.as_str().unwrap().into()),
    ]
}

/// Arrays of the tests.
pub fn npz() -> Seeds {
    files("tests/golden", &["npz"], 700)
        .into_iter()
        .take(24)
        .collect()
}

/// Keras files of different shapes.
#[cfg(feature = "convert")]
pub fn hdf5() -> Seeds {
    let few = [
        "up_sampling2d_bilinear_2_legacy.h5",
        "lambda_sum_axis1_legacy.h5",
        "refused_lambda_os_system.h5",
        "batch_normalization_epsilon.h5",
        "dense_rank2.h5",
        "add_rank_broadcast.h5",
        "broken_weight_type.h5",
        "broken_missing_weight.h5",
        "refused_masking.h5",
        "conv1d_causal.h5",
    ];
    let mut seeds = files("tests/golden", &["h5"], 20 << 10);
    seeds.retain(|(name, _)| few.contains(&&**name));
    seeds
}

#[cfg(feature = "convert")]
pub fn archive() -> Seeds {
    files("tests/golden", &["keras"], 20 << 10)
}

/// An architecture alone, and each architecture with its weights.
#[cfg(feature = "convert")]
pub fn architecture() -> Seeds {
    let texts = files("tests/golden", &["json", "yaml"], 10 << 10).into_iter();
    let with_weights = texts.flat_map(|(name, text)| {
        let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
        let golden = repository().join("tests/golden");
        let weights = ["h5", "weights.h5"].iter().find_map(|ending| {
            let bytes = fs::read(golden.join(format!("{stem}.{ending}"))).ok()?;
            (bytes.len() <= 24 << 10).then_some(bytes)
        });
        let mark = [super::keras::MARK];
        let whole = weights.map(|weights| {
            let input = [&text[..], &mark, &weights].concat();
            (format!("{name}_with_weights"), input)
        });
        [Some((name, text)), whole].into_iter().flatten()
    });
    with_weights.collect()
}

/// The architectures of the tests' Keras files, with the shapes of their weights.
#[cfg(feature = "convert")]
pub fn keras_config() -> Seeds {
    use super::keras::as_config;
    let files = files("tests/golden", &["h5"], 40 << 10).into_iter();
    files
        .filter_map(|(name, bytes)| {
            let model = maeum::keras::hdf5::pure::read(bytes).ok()?;
            let input = as_config(&model);
            (input.len() < 3000).then_some((name, input))
        })
        .collect()
}

/// Returns the bytecode of small functions from several versions of Python.
#[cfg(feature = "convert")]
pub fn lambda() -> Seeds {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let decode = |text: &str| -> Vec<u8> {
        let (mut bytes, mut group, mut bits) = (Vec::new(), 0u32, 0);
        for digit in text
            .bytes()
            .filter_map(|c| DIGITS.iter().position(|&d| d == c))
        {
            group = group << 6 | digit as u32;
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((group >> bits) as u8);
            }
        }
        bytes
    };
    let codes = fs::read_to_string(repository().join("tests/keras/lambda/codes.tsv"));
    let codes = codes.expect("it is a file of the tests");
    let lines = codes.lines().enumerate();
    lines
        .map(|(i, line)| {
            (
                format!("code_{i:03}"),
                decode(line.rsplit('\t').next().unwrap()),
            )
        })
        .collect()
}

/// Tables as different programs save them.
pub fn manifest() -> Seeds {
    let mut seeds = text(&[
        "path,speaker\na.wav,A\n",
        "path,emotion,gender,age,speaker\na/b.wav,anger,female,31.5,A\nc.wav,,,,\n",
        "path;emotion;gender;age;speaker;split\r\na/b.wav;anger;female;31,5;A;test\r\n",
        "path\temotion\tgender\tage\tspeaker\tcorpus\na.wav\tjoy\t\t9\tA\tone\n",
        "\u{feff}path,emotion,gender,age,speaker,age_band,language,condition\n\"a \"\"b\"\".wav\",,,,,20s,ko,\"far,\nloud\"\n",
    ]);
    let korean = "path,speaker\r\n목소리/하나.wav,김민지\r\n";
    let utf_16: Vec<u8> = korean.encode_utf16().flat_map(u16::to_le_bytes).collect();
    seeds.push(("utf_16".into(), [&b"\xFF\xFE"[..], &utf_16].concat()));
    // A manifest in CP949.
    seeds.push((
        "cp949".into(),
        b"path,speaker\r\n\xb8\xf1\xbc\xd2\xb8\xae/\xc7\xcf\xb3\xaa.wav,\xb1\xe8\xb9\xce\xc1\xf6\r\n".to_vec(),
    ));
    seeds
}

/// Numbers that make a graph of each kind.
pub fn numbers() -> Seeds {
    (0..=255u8)
        .step_by(7)
        .map(|kind| {
            let mut state = u32::from(kind) + 1;
            let mut input = vec![kind];
            for _ in 0..400 {
                // Numerical Recipes' generator.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                input.extend((state >> 8).to_le_bytes());
            }
            (format!("numbers_{kind:03}"), input)
        })
        .collect()
}

/// A profile of a synthetic voice.
#[cfg(feature = "default-model")]
pub fn profile() -> Seeds {
    let json = super::recogniser::profile().to_json();
    let short = json.replace('-', "");
    vec![
        ("voice".into(), json.into()),
        ("positive".into(), short.into()),
    ]
}

/// Short pieces of sound for each rate and model.
#[cfg(feature = "default-model")]
pub fn recordings() -> Seeds {
    let voice = super::recogniser::voice();
    let pair = |x: &f32| ((x * 32768.0) as i16).to_le_bytes();
    let mut seeds = Seeds::new();
    for (choice, rate, repeats, from, length) in [
        (0x00, 4, 3, 8000, 1600),
        (0x81, 4, 3, 9000, 1600),
        (0x82, 1, 9, 9000, 300),
        (0x03, 9, 255, 9000, 40),
        (0x01, 11, 20, 9000, 400),
        (0x80, 200, 7, 9000, 300),
        (0x01, 0, 1, 0, 10),
    ] {
        let samples = voice.samples[from..from + length].iter().flat_map(pair);
        let input = [choice, rate, repeats, 0].into_iter().chain(samples);
        seeds.push((format!("voice_{choice}_{rate}"), input.collect()));
    }
    seeds
}

/// First messages, later messages, and what is neither.
#[cfg(all(feature = "serve", feature = "default-model"))]
pub fn stream() -> Seeds {
    text(&[
        r#"{"sample_rate": 16000, "encoding": "s16le"}"#,
        r#"{"sample_rate": 44100, "encoding": "s16le", "dropout": 7, "seed": 9, "name": "a", "interim": false}"#,
        r#"{"sample_rate": 8000, "encoding": "s16le", "dropout": "off", "profile": null}"#,
        r#"{"sample_rate": 8000, "encoding": "s16le", "profile": {"format": "maeum speaker profile", "version": 1}}"#,
        r#"{"type": "end"}"#,
        r#"{"type": "stop", "x": [1, 2.5e-3, "\u00e9"]}"#,
    ])
}

/// Bodies with every way to write a name.
#[cfg(all(feature = "serve", feature = "default-model"))]
pub fn multipart() -> Seeds {
    let part = |head: &str, content: &str| format!("--x\r\n{head}\r\n\r\n{content}\r\n");
    let disposition = |rest: &str| format!("Content-Disposition: form-data; {rest}");
    let body = |parts: &[String]| {
        format!(
            "multipart/form-data; boundary=x\n{}--x--\r\n",
            parts.concat()
        )
    };
    let many: Vec<String> = (0..17)
        .map(|i| part(&disposition(&format!("name=a{i}")), ""))
        .collect();
    text(&[
        &body(&[
            part(&disposition(r#"name="file"; filename="a.wav""#), "RIFF"),
            part(&disposition(r#"name="dropout""#), "off"),
        ]),
        &body(&[part(
            &disposition("name=file; filename*=utf-8''%EC%9D%8C%EC%84%B1.wav; filename=\"x\""),
            "abc",
        )]),
        &body(&[part(
            &disposition(r#"name="a\"b\\"; filename="%EC%9D%8C""#),
            "\r\n--y",
        )]),
        &body(&[part(
            &(disposition("name=\"file\"") + "\r\nContent-Transfer-Encoding: base64"),
            "AAAA",
        )]),
        &body(&many),
        "application/x-www-form-urlencoded\npath_dir=a%2Fb&wav_name=%EC%9D%8C+x&=&a",
        "multipart/form-data\n--x",
    ])
}

/// Requests for every route.
#[cfg(all(feature = "serve", feature = "default-model"))]
pub fn http() -> Seeds {
    const HOST: &str = "HTTP/1.1\r\nHost: localhost\r\n";
    let get = |path: &str| format!("GET {path} {HOST}\r\n");
    let post = |path: &str, kind: &str, body: &str| {
        let length = body.len();
        format!("POST {path} {HOST}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFFxxxxWAVEfmt \r\n--x\r\nContent-Disposition: form-data; name=\"dropout\"\r\n\r\n4\r\n--x--\r\n";
    let multipart = "multipart/form-data; boundary=x";
    let urlencoded = "application/x-www-form-urlencoded";
    let mut seeds = text(&[
        &(get("/") + &get("/livez") + &get("/readyz") + &get("/metrics")),
        &get("/v1/models"),
        &get("/openapi.json"),
        &get("/docs"),
        &get("/nowhere/%2e%2e/x?y=%00"),
        &format!(
            "OPTIONS /v1/audio/emotion {HOST}Origin: https://example.org\r\nAccess-Control-Request-Method: POST\r\n\r\n"
        ),
        &post("/v1/audio/emotion", multipart, form),
        &post(
            "/v1/audio/emotion?response_format=csv&dropout=off&seed=1&channel=1",
            "audio/wav",
            "RIFF",
        ),
        &post("/v1/speaker/profile", multipart, form),
        &post("/", urlencoded, "input_speech=sweep.wav"),
        &post("/", urlencoded, "path_dir=..%2F&wav_name=voice.wav"),
        &format!(
            "POST /v1/audio/emotion {HOST}Content-Type: audio/wav\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n4\r\nRIFF\r\n0\r\n\r\n"
        ),
        "GET / HTTP/1.0\r\n\r\n",
    ]);
    let upgrade = format!(
        "GET /v1/audio/stream {HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    // Frames with a mask of zeros: text with the first message, binary with samples, the end.
    let frame = |opcode: u8, content: &[u8]| {
        let mut frame = vec![0x80 | opcode, 0x80 | content.len() as u8, 0, 0, 0, 0];
        frame.extend(content);
        frame
    };
    let stream = [
        upgrade.into_bytes(),
        frame(1, br#"{"sample_rate": 1000, "encoding": "s16le"}"#),
        frame(2, &[1; 100]),
        frame(9, b"x"),
        frame(1, br#"{"type": "end"}"#),
        frame(8, &[3, 232]),
    ];
    seeds.push(("stream".into(), stream.concat()));
    seeds
}
