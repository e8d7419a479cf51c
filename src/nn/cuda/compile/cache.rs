//! Cache of compiled kernels in the user's cache folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::{OPTIONS, PTX, architecture_for, compile, whole};
use crate::nn::cuda::driver::DeviceError;

/// Length of the checksum after the code. The driver takes an image without its length, so a
/// truncated one must be detected before.
const SUM: usize = 32;

/// Returns an image that a device of this compute capability can load, from the cache or newly
/// compiled; `fresh` skips the cache.
///
/// # Errors
/// If it is not cached and the compiler is missing or rejects the source.
pub(crate) fn image(
    file: &str,
    source: &str,
    capability: [u32; 2],
    fresh: bool,
) -> Result<Vec<u8>, DeviceError> {
    let number = 10 * capability[0] + capability[1];
    let cache = Cache::of(file, source, folder());
    let found = |architecture: &str| match fresh {
        true => None,
        false => cache.read(architecture),
    };
    if let Some(code) = found(&format!("sm_{number}")) {
        return Ok(code);
    }
    let architecture = match architecture_for(capability) {
        Ok(architecture) => architecture,
        Err(missing) => {
            let mut earlier = (0..=number).rev().map(|n| format!("{PTX}{n}"));
            return earlier.find_map(|n| found(&n)).ok_or(missing);
        }
    };
    if let Some(code) = found(&architecture) {
        return Ok(code);
    }
    let compiled = compile(file, source, &architecture)?;
    // A failed write only costs a recompilation later.
    let _ = cache.write(&architecture, &compiled.code);
    Ok(compiled.code)
}

/// Returns the cache folder.
fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("maeum").join("cuda"))
}

/// Cached images of one source.
struct Cache<'a> {
    folder: Option<PathBuf>,
    file: &'a str,
    /// Hash of the text and the compiler's options.
    hash: String,
}

impl<'a> Cache<'a> {
    fn of(file: &'a str, source: &str, folder: Option<PathBuf>) -> Self {
        let mut hash = Sha256::new();
        hash.update(whole(file, source));
        hash.update(OPTIONS.join(" "));
        let hash = hash.finalize()[..16]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        Self { folder, file, hash }
    }

    fn path(&self, architecture: &str) -> Option<PathBuf> {
        let name = format!("{}-{architecture}-{}.bin", self.file, self.hash);
        Some(self.folder.as_ref()?.join(name))
    }

    /// Returns the image for the architecture, if its checksum is correct.
    fn read(&self, architecture: &str) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.path(architecture)?).ok()?;
        let sum = bytes.split_off(bytes.len().checked_sub(SUM)?);
        (Sha256::digest(&bytes)[..] == sum[..]).then_some(bytes)
    }

    fn write(&self, architecture: &str, code: &[u8]) -> std::io::Result<()> {
        let Some(path) = self.path(architecture) else {
            return Ok(());
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Written under a unique name and renamed: atomic against other threads and processes.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = path.with_extension(format!("{}.{count}.tmp", std::process::id()));
        let written = write_with_sum(&own, code).and_then(|()| std::fs::rename(&own, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&own);
        }
        written
    }
}

fn write_with_sum(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let mut bytes = code.to_vec();
    bytes.extend_from_slice(&Sha256::digest(code));
    std::fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of("a.cu", "text", Some(folder.path().into()));
        assert_eq!(cache.read("sm_90"), None);
        cache.write("sm_90", b"machine code").unwrap();
        assert_eq!(cache.read("sm_90").as_deref(), Some(&b"machine code"[..]));
        assert_eq!(cache.read("sm_80"), None);
        assert_eq!(
            Cache::of("a.cu", "other", Some(folder.path().into())).read("sm_90"),
            None
        );
        let path = cache.path("sm_90").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 5, SUM, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(cache.read("sm_90"), None, "{length}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let cache = Cache::of("a.cu", "text", None);
        cache.write("sm_90", b"machine code").unwrap();
        assert_eq!(cache.read("sm_90"), None);
    }
}
