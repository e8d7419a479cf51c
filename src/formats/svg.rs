//! Self-contained picture of one recording, without scripts, fonts or linked images. It follows the
//! viewer's light or dark colour scheme.

mod canvas;
mod timeline;

use canvas::{Anchor, Canvas, escape, shorten, width, wrap};

use super::timeline::{Cell, cells, strongest};
use super::{Context, NOTICE, table};
use crate::prediction::{Prediction, Warning};

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Horizontal bounds of the time axis, in pixels.
const LEFT: f64 = 104.0;
const RIGHT: f64 = WIDTH - MARGIN;
/// Distance between consecutive emotion bars.
const BAR_STEP: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
/// Right end of a bar of weight 1.
const BARS_END: f64 = 470.0;
/// Left edge of the text beside the bars.
const TEXT_LEFT: f64 = 610.0;
const LINE: f64 = 18.0;
/// Maximum number of emotion changes in the description.
const DESCRIBED: usize = 20;

/// Number of distinct emotion colours; further emotions reuse them.
const COLOURS: usize = 7;
/// Font sizes in pixels; [`STYLE`] repeats them.
const TITLE_SIZE: f64 = 20.0;
const TEXT_SIZE: f64 = 13.0;
const SMALL_SIZE: f64 = 12.0;

/// Style sheet of the picture.
///
/// The colours of areas and bars are those of Okabe and Ito, "Color Universal Design" (2008), which
/// are distinguishable with any kind of colour vision. Letters on them have a contrast of at least
/// 4.5. Every rule is limited to the picture's class, so that the picture can be embedded in a
/// page.
const STYLE: &str = "\
.maeum{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','Noto Sans CJK KR','DejaVu Sans',sans-serif;font-size:13px}
.maeum text{fill:#1b1f24}
.maeum .title{font-size:20px;font-weight:600}
.maeum .head{font-weight:600}
.maeum .small{font-size:12px;fill:#57606a}
.maeum .warn{fill:#8a3b00}
.maeum .back{fill:#fff}
.maeum .plot{fill:#f1f3f5}
.maeum .part{fill:#d3d9df}
.maeum .speech{fill:#3d4752}
.maeum .attention{fill:#3d4752}
.maeum .grid{stroke:#57606a;stroke-opacity:.35;fill:none}
.maeum .whisker{stroke:#1b1f24;stroke-width:1.5;fill:none}
.maeum .halo{stroke:#fff;stroke-width:4;stroke-linecap:square;fill:none}
.maeum .area{stroke:#fff;stroke-width:1;stroke-linejoin:round}
.maeum .c0{fill:#e69f00}
.maeum .c1{fill:#56b4e9}
.maeum .c2{fill:#009e73}
.maeum .c3{fill:#f0e442}
.maeum .c4{fill:#0072b2}
.maeum .c5{fill:#d55e00}
.maeum .c6{fill:#cc79a7}
.maeum text.on{fill:#000;font-size:12px}
.maeum text.on4{fill:#fff}
@media (prefers-color-scheme:dark){
.maeum text{fill:#e6e9ec}
.maeum .small{fill:#a3adb8}
.maeum .warn{fill:#ffb27a}
.maeum .back{fill:#14181d}
.maeum .plot{fill:#20262d}
.maeum .part{fill:#3b444e}
.maeum .speech{fill:#c3ccd5}
.maeum .attention{fill:#c3ccd5}
.maeum .grid{stroke:#a3adb8}
.maeum .whisker{stroke:#fff}
.maeum .halo{stroke:#14181d}
.maeum .area{stroke:#14181d}
}
";

/// Returns the SVG document of one recording.
pub fn document(context: &Context, file: &str, p: &Prediction) -> String {
    let mut canvas = Canvas::default();
    let title = shorten(file, TITLE_SIZE, RIGHT - MARGIN);
    canvas.text("title", Anchor::Start, MARGIN, 38.0, &title);
    let mut y = 50.0;
    for line in wrap(&table::voice(p), SMALL_SIZE, RIGHT - MARGIN) {
        y += 10.0;
        canvas.text("small", Anchor::Start, MARGIN, y, &line);
        y += LINE - 10.0;
    }
    y = timeline::draw(&mut canvas, context, p, y + 10.0);
    let below_bars = bars(&mut canvas, context, p, y);
    let below_text = summary(&mut canvas, context, p, y);
    y = below_bars.max(below_text) + 20.0;
    for line in footer(context) {
        canvas.text("small", Anchor::Start, MARGIN, y, &line);
        y += LINE;
    }
    let height = (y + 4.0).ceil();
    let elements = canvas.finish();
    let name = escape(&format!("Voice-based estimate for {file}"));
    let description = escape(&description(context, p));
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" class="maeum" role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<title>{name}</title>
<desc>{description}</desc>
<style>
{STYLE}</style>
<rect class="back" width="{WIDTH}" height="{height}"/>
{elements}</svg>
"#
    )
}

/// Draws the emotion weights of the recording, largest first, each with a whisker of one standard
/// deviation to both sides. Returns the lower edge.
fn bars(canvas: &mut Canvas, context: &Context, p: &Prediction, top: f64) -> f64 {
    let uncertain = p.emotions.iter().any(|e| e.std > 0.0);
    let left = context.emotions.iter().map(|n| width(n, TEXT_SIZE));
    let left = MARGIN + left.fold(0.0, f64::max).min(160.0) + 12.0;
    let x = |share: f64| left + (BARS_END - left) * share.clamp(0.0, 1.0);
    let mut order: Vec<usize> = (0..p.emotions.len().min(context.emotions.len())).collect();
    order.sort_by(|&a, &b| p.emotions[b].mean.total_cmp(&p.emotions[a].mean));
    let mut y = top + TEXT_SIZE;
    canvas.text("head", Anchor::Start, MARGIN, y, "emotion, whole recording");
    y += 10.0;
    for i in order {
        let estimate = p.emotions[i];
        let middle = y + BAR_HEIGHT / 2.0;
        let name = shorten(&context.emotions[i], TEXT_SIZE, left - MARGIN - 10.0);
        canvas.text("name", Anchor::End, left - 8.0, middle + 4.5, &name);
        canvas.rect("plot", left, y, BARS_END - left, BAR_HEIGHT);
        let class = format!("c{}", i % COLOURS);
        canvas.rect(&class, left, y, x(estimate.mean) - left, BAR_HEIGHT);
        let mut label = format!("{:.1} %", estimate.mean * 100.0);
        if uncertain {
            let ends = [-estimate.std, estimate.std].map(|d| x(estimate.mean + d));
            for class in ["halo", "whisker"] {
                canvas.line(class, (ends[0], middle), (ends[1], middle));
                for end in ends {
                    canvas.line(class, (end, middle - 4.0), (end, middle + 4.0));
                }
            }
            label += &format!(" ± {:.1}", estimate.std * 100.0);
        }
        canvas.text(
            "value",
            Anchor::Start,
            BARS_END + 10.0,
            middle + 4.5,
            &label,
        );
        y += BAR_STEP;
    }
    if let Some(draws) = table::draws(p) {
        let label = format!("± over {draws} random draws of the network");
        canvas.text("small", Anchor::Start, MARGIN, y + 10.0, &label);
        y += LINE;
    }
    y
}

/// Writes age, gender and warnings beside the bars. Returns the lower edge.
fn summary(canvas: &mut Canvas, context: &Context, p: &Prediction, top: f64) -> f64 {
    let room = RIGHT - TEXT_LEFT;
    let mut y = top + TEXT_SIZE;
    let warnings: Vec<String> = p.warnings.iter().map(Warning::to_string).collect();
    let mut label = vec![
        ("age", "name", vec![table::age(p)]),
        ("gender", "name", vec![table::gender(context, p)]),
    ];
    if let Some(speaker) = &p.speaker {
        label.push(("speaker", "name", vec![table::speaker_profile(speaker)]));
    }
    if !warnings.is_empty() {
        label.push(("warnings", "warn", warnings));
    }
    for (heading, class, label) in label {
        canvas.text("head", Anchor::Start, TEXT_LEFT, y, heading);
        y += LINE;
        for line in label.iter().flat_map(|s| wrap(s, TEXT_SIZE, room)) {
            canvas.text(class, Anchor::Start, TEXT_LEFT, y, &line);
            y += LINE;
        }
        y += 6.0;
    }
    y
}

/// Returns the lines about the model, its licences and the permitted use.
fn footer(context: &Context) -> Vec<String> {
    let model = format!("model {}, sha256 {}", context.model, context.identity);
    let licences = table::licences(context);
    let lines = licences.lines().chain([NOTICE, &model]);
    let lines = lines.flat_map(|line| wrap(line, SMALL_SIZE, RIGHT - MARGIN));
    lines.collect()
}

/// Returns the text alternative of the picture.
fn description(context: &Context, p: &Prediction) -> String {
    let mut order: Vec<_> = context.emotions.iter().zip(&p.emotions).collect();
    order.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
    let emotions = order
        .iter()
        .map(|(name, e)| format!("{name} {:.1} %", e.mean * 100.0));
    let emotions: Vec<String> = emotions.collect();
    let mut text = format!(
        "Emotion: {}. Age: {}. Gender: {}. Voice: {}.",
        emotions.join(", "),
        table::age(p),
        table::gender(context, p),
        table::voice(p)
    );
    let runs = runs(context, &cells(p));
    let mut label: Vec<String> = runs
        .iter()
        .take(DESCRIBED)
        .map(|(name, start, end)| format!("{name} from {start:.1} to {end:.1} s"))
        .collect();
    if runs.len() > DESCRIBED {
        label.push(format!("and {} more changes", runs.len() - DESCRIBED));
    }
    if !label.is_empty() {
        text += &format!(" Strongest over time: {}.", label.join(", "));
    }
    for warning in &p.warnings {
        text += &format!(" Warning: {warning}.");
    }
    text + " " + NOTICE
}

/// Returns each run of the strongest emotion: its name, start and end in seconds.
fn runs<'a>(context: &'a Context, cells: &[Cell]) -> Vec<(&'a str, f64, f64)> {
    let mut runs: Vec<(&str, f64, f64)> = Vec::new();
    for cell in cells {
        let Some((name, _)) = strongest(&context.emotions, &cell.emotions) else {
            continue;
        };
        match runs.last_mut() {
            Some((last, _, end)) if *last == name && *end == cell.time.start => {
                *end = cell.time.end;
            }
            _ => runs.push((name, cell.time.start, cell.time.end)),
        }
    }
    runs
}
