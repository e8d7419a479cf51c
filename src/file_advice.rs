//! Remedies for errors of the operating system, which name none.

use std::io::{Error, ErrorKind};

/// Returns what to do about a file that cannot be read.
pub fn to_read(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "name a file that exists",
        ErrorKind::IsADirectory => "name a file in this folder",
        ErrorKind::PermissionDenied => "give this user the permission to read it",
        ErrorKind::InvalidData => "name a file of the right kind",
        _ => "check the file and its disk",
    }
}

/// Returns what to do about a file that cannot be written.
pub fn to_write(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "name a file in a folder that exists",
        ErrorKind::IsADirectory => "name a file in this folder",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "name a file in a folder that this user can write to"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free space, or name a file on another disk"
        }
        _ => "name a file in a folder that exists and can be written to",
    }
}
