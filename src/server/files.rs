//! Folders for the files of the compatible route.
//!
//! The operating system resolves each path inside the folder (cap-std), so neither `..` nor a link
//! leads out, even if files are moved at the same time.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

use super::errors::ApiError;
use crate::atomic_file::create_unique;

/// Folder that paths cannot leave.
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    /// Prefixes of absolute paths into the folder.
    names: Vec<PathBuf>,
    /// Name of the setting, for messages.
    option: &'static str,
    /// BufferedBody while files are renamed.
    rename_lock: Mutex<()>,
}

/// Files of one folder that are replaced together.
struct Exchange<'d> {
    folder: &'d Dir,
    files: Vec<PendingFile<'d>>,
}

/// File of an [`Exchange`].
struct PendingFile<'d> {
    name: PathBuf,
    /// Complete file under a temporary name, until it is renamed.
    temporary: TemporaryName<'d>,
    /// Previous file under a temporary name.
    previous: Option<TemporaryName<'d>>,
    /// True if the complete file has its final name.
    is_renamed: bool,
}

/// Temporary name that is removed on drop.
struct TemporaryName<'d> {
    folder: &'d Dir,
    name: PathBuf,
}

impl Drop for TemporaryName<'_> {
    fn drop(&mut self) {
        // The name is already gone if it was renamed. A file that cannot be removed has to stay.
        let _ = self.folder.remove_file(&self.name);
    }
}

impl<'d> Exchange<'d> {
    fn new(folder: &'d Dir) -> Self {
        Self {
            folder,
            files: Vec::new(),
        }
    }

    /// Writes a file under a temporary name.
    fn add(&mut self, name: &Path, content: &[u8]) -> io::Result<()> {
        let folder = self.folder;
        check_free(folder, name)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let (temporary, mut file) = create_unique(|name| folder.open_with(name, &options))?;
        let temporary = TemporaryName {
            folder,
            name: temporary.into(),
        };
        file.write_all(content)?;
        // Some file systems report a full disk only on sync.
        file.sync_data()?;
        self.files.push(PendingFile {
            name: name.to_owned(),
            temporary,
            previous: None,
            is_renamed: false,
        });
        Ok(())
    }

    /// Renames all files to their final names.
    ///
    /// # Errors
    /// Index and error of the file that cannot be renamed; the previous files are restored.
    fn finish(mut self) -> Result<(), (usize, io::Error)> {
        let folder = self.folder;
        for (i, file) in self.files.iter_mut().enumerate() {
            // The renames below would move a folder aside.
            check_free(folder, &file.name).map_err(|e| (i, e))?;
            let previous = create_unique(|previous| folder.hard_link(&file.name, folder, previous));
            let previous = previous.or_else(|e| match e.kind() {
                ErrorKind::NotFound => Err(e),
                // The file belongs to another user, or the file system has no hard links.
                _ => create_unique(|previous| folder.rename(&file.name, folder, previous)),
            });
            file.previous = match previous {
                Ok((name, ())) => Some(TemporaryName {
                    folder,
                    name: name.into(),
                }),
                // There is no previous file.
                Err(e) if e.kind() == ErrorKind::NotFound => None,
                Err(e) => return Err((i, e)),
            };
            folder
                .rename(&file.temporary.name, folder, &file.name)
                .map_err(|e| (i, e))?;
            file.is_renamed = true;
        }
        for file in &mut self.files {
            file.is_renamed = false;
        }
        Ok(())
    }
}

/// Checks that `name` is not a folder.
///
/// # Errors
/// When it is a folder.
fn check_free(folder: &Dir, name: &Path) -> io::Result<()> {
    match folder.symlink_metadata(name) {
        Ok(previous) if previous.is_dir() => Err(ErrorKind::IsADirectory.into()),
        _ => Ok(()),
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        for file in self.files.iter().filter(|f| f.is_renamed) {
            let _ = match &file.previous {
                Some(previous) => self.folder.rename(&previous.name, self.folder, &file.name),
                None => self.folder.remove_file(&file.name),
            };
        }
    }
}

impl Root {
    /// Opens the folder `path`, named `option` in messages.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn open(path: &Path, option: &'static str) -> io::Result<Self> {
        let mut names = vec![path.canonicalize()?];
        names.extend(path.is_absolute().then(|| path.to_owned()));
        Ok(Self {
            dir: Dir::open_ambient_dir(path, ambient_authority())?,
            names,
            option,
            rename_lock: Mutex::new(()),
        })
    }

    /// Reads up to `limit` bytes of the recording at `path`.
    ///
    /// # Errors
    /// 403 when the path leads out of the folder or is not readable, 404 when it does not exist,
    /// 422 when it is not a regular file, 413 when it is larger.
    pub fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, ApiError> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt;
            // Opening a named pipe would block until it has a writer; opening a terminal could make
            // it the controlling one.
            options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        }
        let fail = |e: io::Error| self.failure(path, &e);
        let file = self
            .dir
            .open_with(self.relative(path)?, &options)
            .map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if metadata.is_dir() {
            return Err(ApiError::unusable(format!(
                "{path}: this is a folder; name a recording in it"
            )));
        }
        if !metadata.is_file() {
            return Err(ApiError::unusable(format!(
                "{path}: this is no regular file; name a recording"
            )));
        }
        let too_large = || {
            ApiError::too_large(
                "too_large",
                format!("{path}: larger than {limit} bytes; cut it into shorter recordings"),
            )
        };
        if metadata.len() > limit as u64 {
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        match bytes.len() > limit {
            true => Err(too_large()),
            false => Ok(bytes),
        }
    }

    /// Writes all files or none.
    ///
    /// Each name is `prefix` with the file's suffix; the folder must exist. Files appear, or
    /// replace previous ones, when all are complete.
    ///
    /// # Errors
    /// 403 when a path leads out of the folder or is not writable, 404 when the folder does not
    /// exist, 409 when a folder has a file's name, 507 when the disk is full.
    pub fn write(&self, prefix: &str, files: &[(&str, Vec<u8>)]) -> Result<(), ApiError> {
        let full: Vec<String> = files
            .iter()
            .map(|(end, _)| format!("{prefix}{end}"))
            .collect();
        let Some(first) = full.first() else {
            return Ok(());
        };
        let fail = |path: &str| {
            let path = path.to_owned();
            move |e: io::Error| self.write_failure(&path, &e)
        };
        // An open folder stays the same even if it is moved.
        let folder = match self.relative(first)?.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                self.dir.open_dir(parent).map_err(fail(first))?
            }
            _ => self.dir.try_clone().map_err(fail(first))?,
        };
        let mut exchange = Exchange::new(&folder);
        for (path, (_, content)) in full.iter().zip(files) {
            let name = self.relative(path)?.file_name().ok_or_else(|| {
                ApiError::forbidden("outside", format!("{path}: this is no name of a file"))
            })?;
            exchange.add(Path::new(name), content).map_err(fail(path))?;
        }
        // The lock keeps two requests for the same names from mixing.
        let _guard = self
            .rename_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        exchange
            .finish()
            .map_err(|(i, e)| self.write_failure(&full[i], &e))
    }

    /// Returns the path relative to the folder.
    fn relative<'p>(&self, path: &'p str) -> Result<&'p Path, ApiError> {
        let path = Path::new(path);
        if !path.has_root() {
            return Ok(path);
        }
        let mut relative = self.names.iter().filter_map(|n| path.strip_prefix(n).ok());
        relative
            .next()
            .ok_or_else(|| self.outside(&path.display().to_string()))
    }

    fn outside(&self, path: &str) -> ApiError {
        let Self { option, .. } = self;
        ApiError::forbidden(
            "outside",
            format!(
                "{path}: this path leads out of the folder that the server was given with {option}; move the file into it and name it relative to it"
            ),
        )
    }

    fn write_failure(&self, path: &str, error: &io::Error) -> ApiError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                ApiError::disk_full(format!(
                    "{path}: the server's disk has no room for it; none of the files is written, make room and send the request again"
                ))
            }
            ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => ApiError::new(
                StatusCode::CONFLICT,
                "name_taken",
                format!(
                    "{path}: a folder has this name; none of the files is written, choose another output_path"
                ),
            ),
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename => self.failure(path, error),
            kind => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "not_written",
                format!("{path}: cannot be written: {kind}; none of the files is written"),
            ),
        }
    }

    fn failure(&self, path: &str, error: &io::Error) -> ApiError {
        match error.kind() {
            // cap-std's own refusal has no OS error number.
            ErrorKind::PermissionDenied if error.raw_os_error().is_none() => self.outside(path),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => ApiError::forbidden(
                "no_permission",
                format!("{path}: the server is not permitted to use this file; change its rights"),
            ),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput => {
                ApiError::new(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    format!("{path}: no such file or folder; check the path"),
                )
            }
            kind => ApiError::unusable(format!("{path}: cannot be used: {kind}")),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const SECRET: &[u8] = b"secret";

    /// Creates `out/` with a secret file beside `root/` with a recording and links of every kind.
    fn place() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root/sub/deep")).unwrap();
        fs::create_dir_all(at("root-not")).unwrap();
        fs::create_dir_all(at("out")).unwrap();
        for name in ["out/secret", "secret", "root-not/secret"] {
            fs::write(at(name), SECRET).unwrap();
        }
        fs::write(at("root/a.wav"), b"sound").unwrap();
        fs::write(at("root/sub/b.wav"), b"noise").unwrap();
        symlink("../out/secret", at("root/link")).unwrap();
        symlink(at("out"), at("root/folder")).unwrap();
        symlink("a.wav", at("root/inner")).unwrap();
        symlink("../a.wav", at("root/sub/up")).unwrap();
        symlink("round", at("root/round")).unwrap();
        let root = Root::open(&at("root"), "files_root").unwrap();
        (dir, root)
    }

    fn status(result: Result<Vec<u8>, ApiError>) -> (u16, &'static str) {
        let error = result.unwrap_err();
        (error.status.as_u16(), error.code)
    }

    #[test]
    fn files_inside_are_read_by_every_name() {
        let (dir, root) = place();
        let absolute = dir.path().join("root/a.wav").display().to_string();
        for path in [
            "a.wav",
            "./a.wav",
            "sub/../a.wav",
            "sub//b.wav/../../a.wav",
            "inner",
            "sub/up",
            &absolute,
        ] {
            let read = root.read(path, 5);
            if path.contains("b.wav/..") {
                assert_eq!(status(read), (404, "not_found"), "{path}");
            } else {
                assert_eq!(read.unwrap(), b"sound", "{path}");
            }
        }
    }

    #[test]
    fn nothing_outside_is_read() {
        let (dir, root) = place();
        let absolute = |name: &str| dir.path().join(name).display().to_string();
        for path in [
            "../secret",
            "../out/secret",
            "../nowhere",
            "sub/../../secret",
            "link",
            "folder/secret",
            "folder/nowhere",
            "/etc/passwd",
            "//etc/passwd",
            &absolute("secret"),
            &absolute("root-not/secret"),
            &absolute("root/../secret"),
        ] {
            assert_eq!(status(root.read(path, 100)), (403, "outside"), "{path}");
        }
        for path in ["nowhere", "", "a.wav/b", "a\0.wav", "sub/deep/none"] {
            assert_eq!(status(root.read(path, 100)), (404, "not_found"), "{path:?}");
        }
        for path in [".", "sub", "sub/deep/.."] {
            assert_eq!(
                status(root.read(path, 100)),
                (422, "unusable_audio"),
                "{path}"
            );
        }
        assert_eq!(status(root.read("a.wav", 4)), (413, "too_large"));
        assert_eq!(status(root.read("round", 4)).0, 422);
        let message = root.read("link", 9).unwrap_err().message;
        assert!(!message.contains(&absolute("")), "{message}");
    }

    #[test]
    fn a_pipe_does_not_wait_for_its_writer() {
        let (dir, root) = place();
        let pipe = dir.path().join("root/pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(status(root.read("pipe", 9)), (422, "unusable_audio"));
    }

    #[test]
    fn files_are_written_whole_and_only_inside() {
        let (dir, root) = place();
        let at = |name: &str| dir.path().join(name);
        let write = |path: &str, content: &[u8]| root.write(path, &[("", content.to_vec())]);
        write("sub/x.npy", b"one").unwrap();
        write("sub/x.npy", b"two").unwrap();
        assert_eq!(fs::read(at("root/sub/x.npy")).unwrap(), b"two");
        // A link is replaced, not followed.
        write("link", b"mine").unwrap();
        assert_eq!(fs::read(at("root/link")).unwrap(), b"mine");
        for path in ["../x", "folder/x", "/tmp/x", "..", "sub/../.."] {
            assert_eq!(write(path, b"x").unwrap_err().code, "outside", "{path}");
        }
        assert_eq!(write("none/x", b"x").unwrap_err().code, "not_found");
        assert_eq!(write("sub", b"x").unwrap_err().code, "name_taken");
        // A folder has the last name, so none of the files is written.
        fs::create_dir(at("root/sub/deep/c")).unwrap();
        fs::write(at("root/sub/deep/a"), "older").unwrap();
        let three = ["a", "b", "c"].map(|name| (name, b"new".to_vec()));
        let refused = root.write("sub/deep/", &three).unwrap_err();
        assert_eq!(refused.code, "name_taken", "{}", refused.message);
        assert!(
            refused.message.starts_with("sub/deep/c"),
            "{}",
            refused.message
        );
        assert_eq!(fs::read(at("root/sub/deep/a")).unwrap(), b"older");
        assert_eq!(fs::read_dir(at("root/sub/deep")).unwrap().count(), 2);
        fs::remove_dir(at("root/sub/deep/c")).unwrap();
        root.write("sub/deep/", &three).unwrap();
        assert_eq!(fs::read(at("root/sub/deep/a")).unwrap(), b"new");
        assert_eq!(fs::read_dir(at("root/sub/deep")).unwrap().count(), 3);
        assert_eq!(fs::read(at("out/secret")).unwrap(), SECRET);
        let mut names: Vec<_> = fs::read_dir(at("root"))
            .unwrap()
            .chain(fs::read_dir(at("root/sub")).unwrap())
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "a.wav", "b.wav", "deep", "folder", "inner", "link", "round", "sub", "up", "x.npy"
            ]
        );
    }

    #[test]
    fn renames_are_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "older").unwrap();
        let mut exchange = Exchange::new(&folder);
        for name in ["a", "b", "c"] {
            exchange.add(Path::new(name), b"new").unwrap();
        }
        // The folder appears after the check and before the rename.
        fs::create_dir(at("c")).unwrap();
        assert_eq!(exchange.finish().unwrap_err().0, 2);
        assert_eq!(fs::read(at("a")).unwrap(), b"older");
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "c"]);
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("..".to_owned()),
            Just(".".into()),
            Just(String::new()),
            Just("a.wav".into()),
            Just("sub".into()),
            Just("link".into()),
            Just("folder".into()),
            Just("secret".into()),
            Just("out".into()),
            Just("root".into()),
            "[a-z./%\\\\\u{0}가]{0,6}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn no_path_gets_out(
            paths in prop::collection::vec(
                (prop::collection::vec(part(), 0..8), any::<bool>(), any::<bool>()), 1..40),
        ) {
            let (dir, root) = place();
            for (parts, absolute, into_root) in paths {
                let mut path = parts.join("/");
                if absolute {
                    let base = if into_root { dir.path().join("root") } else { dir.path().to_owned() };
                    path = format!("{}/{path}", base.display());
                }
                if let Ok(bytes) = root.read(&path, 100) {
                    prop_assert!(bytes == b"sound" || bytes == b"noise", "{path:?}");
                }
                let _ = root.write(&path, &[("", b"noise".to_vec())]);
                prop_assert_eq!(fs::read(dir.path().join("out/secret")).unwrap(), SECRET);
                prop_assert_eq!(fs::read(dir.path().join("secret")).unwrap(), SECRET);
                let outside = fs::read_dir(dir.path()).unwrap().count();
                prop_assert_eq!(outside, 4, "{:?}", path);
                prop_assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
            }
        }
    }
}
