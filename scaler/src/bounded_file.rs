//! Reading a file whose size is somebody else's choice: never more than a limit, and in one piece of memory.
//!
//! For configuration and certificates as well as, by way of [`crate::secret_file`], for secrets.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a file of at most `most` bytes behind what `content` holds. One that is larger is an error, and never read whole.
pub(crate) fn read_into(path: &Path, most: usize, content: &mut Vec<u8>) -> io::Result<()> {
    let file = File::open(path)?;
    let before = content.len();
    // Room for all of it at once: a vector that grows leaves copies behind of what may be a secret. One byte more, so that
    // the end is seen without growing.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    content.reserve_exact(size.min(most) + 1);
    file.take(most as u64 + 1).read_to_end(content)?;
    if content.len() - before > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(())
}

/// The content of a file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    read_into(path, most, &mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_one_without_an_end_not_for_ever() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        for size in [0, 1, 99, 100] {
            std::fs::write(&path, vec![b'x'; size]).expect("the folder is writable");
            assert_eq!(read(&path, 100).map(|content| content.len()).ok(), Some(size));
        }
        std::fs::write(&path, vec![b'x'; 101]).expect("the folder is writable");
        for endless in [path.as_path(), Path::new("/dev/zero")] {
            let error = read(endless, 100).expect_err("too large");
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (io::ErrorKind::FileTooLarge, "it has more than 100 bytes")
            );
        }
    }

    #[test]
    fn what_is_read_is_never_copied_from_one_place_to_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file");
        std::fs::write(&path, vec![b'x'; 10_000]).expect("the folder is writable");
        let mut content = Vec::new();
        read_into(&path, 20_000, &mut content).expect("a small file");
        assert_eq!(content.capacity(), 10_001, "it did not grow");
    }
}
