//! Files that appear under their name only when they are complete.
//!
//! The bytes are written to a sibling file with a random name, which replaces the target in
//! [`AtomicFile::finish`]. Dropping the file without that removes the sibling;
//! [`remove_unfinished`] removes all siblings when a signal ends the program.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Siblings that are being written.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Maximum number of random names that are tried.
const ATTEMPTS: u32 = 16;

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// File that replaces another, or appears, when it is complete. Symbolic links are followed;
/// devices and named pipes are written to directly.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    /// Path of the sibling; `None` for a device, and after [`AtomicFile::finish`].
    partial: Option<PathBuf>,
    path: PathBuf,
}

impl AtomicFile {
    /// Begins the file `path`. A new file gets the default permissions of the process; one that
    /// replaces another gets the permissions of that file.
    ///
    /// # Errors
    /// If `path` is a folder, or no file can be created in its folder.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::create_with(path, None)
    }

    /// Begins a file that only its owner can read, even if it replaces another.
    ///
    /// # Errors
    /// The errors of [`AtomicFile::create`].
    pub fn create_private(path: &Path) -> io::Result<Self> {
        Self::create_with(path, Some(0o600))
    }

    /// Begins a file; `mode` defaults to that of the replaced file.
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
        // The lock is held during creation, so a signal finds either no sibling or a registered
        // one.
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

    /// Renames the complete file to its final name.
    ///
    /// # Errors
    /// If renaming fails; an older file of that name is then unchanged.
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
            // Nothing can be done if the removal fails.
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

/// Writes the complete file `path`, or leaves the previous contents unchanged.
///
/// # Errors
/// The errors of [`AtomicFile::create`], or if the bytes cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Returns a test of whether writing `output` would replace a file that is read, also through links.
pub fn replaces(output: &Path) -> impl Fn(&Path) -> bool {
    let output = output.canonicalize().ok();
    move |input| output.is_some() && input.canonicalize().ok() == output
}

/// Removes the siblings of all unfinished files. No file is begun or finished while the returned
/// guard lives, so that the process can end in the meantime.
pub fn remove_unfinished() -> impl Sized {
    let mut listed = unfinished();
    for partial in std::mem::take(&mut *listed) {
        let _ = std::fs::remove_file(partial);
    }
    listed
}

/// Creates a file under an unused random name.
///
/// # Errors
/// The error of `create`, unless the name is taken.
pub(crate) fn create_unique<F>(
    mut create: impl FnMut(&str) -> io::Result<F>,
) -> io::Result<(String, F)> {
    let mut attempt = 0;
    loop {
        // The hasher's keys are random. The process number alone would repeat: processes in
        // different containers may share it.
        let random = RandomState::new().hash_one((std::process::id(), attempt));
        // The file's own name may already have the maximum length, so it is not included.
        let name = format!(".maeum-{random:016x}.partial");
        attempt += 1;
        match create(&name) {
            Ok(file) => return Ok((name, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => {}
            Err(e) => return Err(e),
        }
    }
}

/// Creates the sibling of the file to be replaced.
#[cfg(unix)]
fn open_new(partial: &Path, replaced: &Option<Metadata>, mode: Option<u32>) -> io::Result<File> {
    use std::fs::Permissions;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // The mask drops the set-user-id and set-group-id bits.
    let of_replaced = || replaced.as_ref().map(|r| r.permissions().mode() & 0o777);
    let mode = mode.or_else(of_replaced);
    if let Some(mode) = mode {
        // The mode is set at creation, so that no other user can open the file in the meantime.
        options.mode(mode);
    }
    let file = options.open(partial)?;
    if let Some(mode) = mode {
        // Some file systems do not support permissions.
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
    fn a_name_of_maximum_length_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(255);
        write(&dir.path().join(&name), b"x").unwrap();
        assert_eq!(names(dir.path()), [name]);
    }

    #[test]
    fn names_in_use_are_skipped() {
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
    fn permissions_and_links_are_kept() {
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
