//! The elements of a picture.

use std::fmt::Write;

use crate::formats::printable;

/// Width of a letter, in parts of the font's size: the mean over English text in common sans-serif
/// fonts, rounded up.
const LETTER: f64 = 0.56;
/// Of Chinese, Japanese and Korean characters, which fill a square.
const SQUARE: f64 = 1.0;
/// The first character of the blocks that hold those (Hangul Jamo).
const FIRST_SQUARE: char = '\u{1100}';

/// Elements, one after the other.
#[derive(Debug, Default)]
pub struct Canvas(String);

/// Where a text is anchored.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// An upright rectangle, unless it is empty.
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

    /// The area inside `points`, named `title` where the reader points at it.
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

/// `text` as XML content or attribute, without characters that XML 1.0 does not allow.
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

/// About how wide `text` is at a font size.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| width_of(c, size)).sum()
}

fn width_of(c: char, size: f64) -> f64 {
    size * if c < FIRST_SQUARE { LETTER } else { SQUARE }
}

/// `text` in lines about as wide as `limit`, broken at blanks; a longer word has a line to itself.
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

/// `text`, its middle left out if it is wider than `limit`: both ends of a path tell paths apart.
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
