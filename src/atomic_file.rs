//! Files that appear under their name only when they are complete.
//!
//! The bytes go to a neighbour with a random name, which takes the place of the file in
//! [`AtomicFile::finish`]. Without that the neighbour is removed; [`remove_unfinished`] removes all
//! neighbours when a signal ends the program.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Neighbours that are being written.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Random names that are tried before giving up.
const ATTEMPTS: u32 = 16;

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that replaces another, or appears, when it is complete. Links are followed; devices and
/// named pipes are written to directly.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// The neighbour; `None` for a device, and after [`AtomicFile::finish`].
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins the file `path`. A new file gets the rights that the process gives new files, one
    /// that replaces another the same rights as that.
    ///
    /// # Errors
    /// When `path` is a folder, or its folder takes no file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_with(path, None)
    }

    /// Begins a file that nobody but its owner may read, also where it replaces another.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create_private(path: &Path) -> io::Result<Self> {
        Self::create_with(path, Some(0o600))
    }

    /// `mode` is that of a replaced file if it is not given.
    fn create_with(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let replaced = std::fs::metadata(&path).ok();
        if replaced.as_ref().is_some_and(Metadata::is_dir) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if replaced.as_ref().is_some_and(|r| !r.is_file()) {
            return Ok(Self {
                file: OpenOptions::new().write(true).open(&path)?,
                partial: None,
                path,
            });
        }
        // Held meanwhile: a signal finds either no neighbour or one that is listed.
        let mut listed = unfinished();
        let (name, file) =
            create_unique(|name| open_new(&path.with_file_name(name), &replaced, mode))?;
        let partial = path.with_file_name(name);
        listed.insert(partial.clone());
        Ok(Self {
            file,
            partial: Some(partial),
            path,
        })
    }

    /// Gives the complete file its name.
    ///
    /// # Errors
    /// When it cannot get it; an older file of that name is as it was.
    pub fn finish(mut self) -> io::Result<()> {
        let mut listed = unfinished();
        if let Some(partial) = &self.partial {
            std::fs::rename(partial, &self.path)?;
            listed.remove(partial);
            self.partial = None;
        }
        Ok(())
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // A file that does not let itself be removed has to stay.
            let _ = std::fs::remove_file(partial);
            unfinished().remove(partial);
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Writes the whole file `path`, or leaves what was there as it was.
///
/// # Errors
/// As [`AtomicFile::create`], and when the bytes cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Removes the neighbours of all files that are not finished. None is begun or finished while the
/// returned guard lives, so that a process can end meanwhile.
pub fn remove_unfinished() -> impl Sized {
    let mut listed = unfinished();
    for partial in std::mem::take(&mut *listed) {
        let _ = std::fs::remove_file(partial);
    }
    listed
}

/// Creates a file under a random name that `create` finds free.
///
/// # Errors
/// The error of `create`, unless it is that the name is taken.
pub(crate) fn create_unique<F>(
    mut create: impl FnMut(&str) -> io::Result<F>,
) -> io::Result<(String, F)> {
    let mut attempt = 0;
    loop {
        // The keys are random. The process number alone would repeat: in a container each process
        // may have the same.
        let random = RandomState::new().hash_one((std::process::id(), attempt));
        // Not made of the file's own name, which may be as long as names can be.
        let name = format!(".maeum-{random:016x}.partial");
        attempt += 1;
        match create(&name) {
            Ok(file) => return Ok((name, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
            Err(e) => return Err(e),
        }
    }
}

/// Creates the neighbour of a file that it is to replace.
#[cfg(unix)]
fn open_new(partial: &Path, replaced: &Option<Metadata>, mode: Option<u32>) -> io::Result<File> {
    use std::fs::Permissions;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Without the bits for set-user-id and set-group-id.
    let of_replaced = || replaced.as_ref().map(|r| r.permissions().mode() & 0o777);
    let mode = mode.or_else(of_replaced);
    if let Some(mode) = mode {
        // From the beginning, so that nobody else can open it meanwhile.
        options.mode(mode);
    }
    let file = options.open(partial)?;
    if let Some(mode) = mode {
        // Some file systems have no rights to set.
        let _ = file.set_permissions(Permissions::from_mode(mode));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open_new(partial: &Path, _: &Option<Metadata>, _: Option<u32>) -> io::Result<File> {
    File::create_new(partial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(dir.path()).len(), 2);
        drop(file);
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let error = write(dir.path(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_name_as_long_as_names_can_be_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        write(&dir.path().join(&name), b"x").unwrap();
        assert_eq!(names(dir.path()), [name]);
    }

    #[test]
    fn taken_names_are_passed_over() {
        let mut asked = Vec::new();
        let found = create_unique(|name| {
            asked.push(name.to_owned());
            match asked.len() {
                3 => Ok(()),
                _ => Err(io::ErrorKind::AlreadyExists.into()),
            }
        });
        assert_eq!(found.unwrap().0, asked[2]);
        asked.dedup();
        assert_eq!(asked.len(), 3, "{asked:?}");
        let never = create_unique(|_| Err::<(), _>(io::ErrorKind::AlreadyExists.into()));
        assert_eq!(never.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[cfg(unix)]
    #[test]
    fn rights_and_links_stay() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&path, b"1").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        for wanted in [0o600, 0o640, 0o664, 0o444, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(wanted)).unwrap();
            write(&path, b"2").unwrap();
            assert_eq!(mode(&path), wanted);
        }
        let link = dir.path().join("link");
        symlink("out", &link).unwrap();
        write(&link, b"3").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&path).unwrap(), b"3");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        write(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        let full = write(Path::new("/dev/full"), b"lost").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
