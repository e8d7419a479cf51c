//! Unique short names of recordings.

use std::collections::HashMap;
use std::path::Path;

use super::STANDARD_INPUT;

/// Generator of unique names.
///
/// The first free one of these is taken: the file name without its extension, the file name, the
/// path joined by `separator`, and that path with a number. Names that differ only in case are
/// equal, because some file systems ignore case.
#[derive(Debug, Clone)]
pub struct Names {
    separator: &'static str,
    /// Names in lower case, each with the number for its next recording.
    taken: HashMap<String, u64>,
}

impl Names {
    /// Creates a generator without any taken name.
    pub fn new(separator: &'static str) -> Self {
        Self {
            separator,
            taken: HashMap::new(),
        }
    }

    /// Returns the name of the recording at `path`.
    pub fn next(&mut self, path: &str) -> String {
        if path == STANDARD_INPUT {
            return self.numbered("standard-input");
        }
        let path = Path::new(path);
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map_or_else(String::new, |p| p.to_string_lossy().into_owned())
        };
        for name in [text(path.file_stem()), text(path.file_name())] {
            if !name.is_empty() && self.take(&name) {
                return name;
            }
        }
        let parts = path.components().filter_map(|part| match part {
            std::path::Component::Normal(part) => Some(part.to_string_lossy()),
            _ => None,
        });
        let parts: Vec<_> = parts.collect();
        match &*parts.join(self.separator) {
            "" => self.numbered("recording"),
            whole => self.numbered(whole),
        }
    }

    fn numbered(&mut self, name: &str) -> String {
        if self.take(name) {
            return name.to_owned();
        }
        loop {
            let number = self.taken.entry(name.to_lowercase()).or_insert(2);
            let numbered = format!("{name}-{number}");
            *number += 1;
            if self.take(&numbered) {
                return numbered;
            }
        }
    }

    fn take(&mut self, name: &str) -> bool {
        let mut free = false;
        self.taken.entry(name.to_lowercase()).or_insert_with(|| {
            free = true;
            2
        });
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_has_a_name_of_its_own() {
        let mut names = Names::new("_");
        let cases = [
            ("set/one.wav", "one"),
            ("-", "standard-input"),
            ("set/one.flac", "one.flac"),
            ("other/ONE.wav", "ONE.wav"),
            ("/deep/../one.wav", "deep_one.wav"),
            ("/deep/one.wav", "deep_one.wav-2"),
            ("/deep/one.wav", "deep_one.wav-3"),
            ("a.b.wav", "a.b"),
            ("..", "recording"),
        ];
        for (path, wanted) in cases {
            assert_eq!(names.next(path), wanted, "{path}");
        }
    }
}
