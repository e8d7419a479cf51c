//! SVG elements and text metrics.

use std::fmt::Write;

use crate::formats::printable;

/// Mean letter width as a fraction of the font size: over English text in common sans-serif fonts,
/// rounded up.
const LETTER: f64 = 0.56;
/// Width of Chinese, Japanese and Korean characters as a fraction of the font size: they fill a
/// square.
const SQUARE: f64 = 1.0;
/// First character of the Unicode blocks with square characters (Hangul Jamo).
const FIRST_SQUARE: char = '\u{1100}';

/// Buffer of SVG elements.
#[derive(Debug, Default)]
pub struct Canvas(String);

/// Horizontal anchor of a text.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// Draws a rectangle unless its width is 0.
    pub fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        if width > 0.0 {
            self.element(format_args!(
                r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
            ));
        }
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        self.element(format_args!(
            r#"<path class="{class}" d="M{:.1} {:.1}L{:.1} {:.1}"/>"#,
            from.0, from.1, to.0, to.1
        ));
    }

    /// Draws the polygon `points` with the tooltip `title`.
    pub fn area(&mut self, class: &str, points: &[(f64, f64)], title: &str) {
        let mut path = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("a string takes everything");
        }
        let title = escape(title);
        self.element(format_args!(
            r#"<path class="{class}" d="{path}Z"><title>{title}</title></path>"#
        ));
    }

    pub fn text(&mut self, class: &str, anchor: Anchor, x: f64, y: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let text = escape(text);
        self.element(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}"{anchor}>{text}</text>"#
        ));
    }

    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{element}").expect("a string takes everything");
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// Escapes `text` for XML content and attributes, without characters that XML 1.0 forbids.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns the approximate width of `text` in pixels.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| width_of(c, size)).sum()
}

fn width_of(c: char, size: f64) -> f64 {
    size * if c < FIRST_SQUARE { LETTER } else { SQUARE }
}

/// Breaks `text` at blanks into lines of approximate width `limit`; a longer word has its own line.
pub fn wrap(text: &str, size: f64, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, size) + width(word, size) + LETTER * size <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Omits the middle of a text that is wider than `limit`. Paths differ mostly at their ends.
pub fn shorten(text: &str, size: f64, limit: f64) -> String {
    if width(text, size) <= limit {
        return text.to_owned();
    }
    let half = (limit - SQUARE * size) / 2.0;
    let fits = |room: &mut f64, c: char| {
        *room -= width_of(c, size);
        *room >= 0.0
    };
    let mut room = half;
    let front: String = text.chars().take_while(|&c| fits(&mut room, c)).collect();
    room = half;
    let back: Vec<char> = text
        .chars()
        .rev()
        .take_while(|&c| fits(&mut room, c))
        .collect();
    let back: String = back.into_iter().rev().collect();
    format!("{front}…{back}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_or_shortened() {
        assert_eq!(wrap("one two  three", 10.0, 50.0), ["one two", "three"]);
        assert_eq!(wrap("", 10.0, 50.0), [""; 0]);
        assert_eq!(shorten("short", 10.0, 50.0), "short");
        assert_eq!(shorten("a/very/long/name.wav", 10.0, 70.0), "a/ver…e.wav");
        assert!(width(&shorten("감정감정감정감정", 10.0, 60.0), 10.0) <= 60.0);
    }
}
