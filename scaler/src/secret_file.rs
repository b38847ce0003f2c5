//! Reading a file that holds a secret: bounded, into memory that is overwritten when it is dropped. Keeps nothing.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use crate::bounded_file;

/// The largest secret file that is read, in bytes; a certificate chain with its key takes about 10 KB.
const MAX_BYTES: usize = 64 * 1024;

/// The content of a secret file. The error is one line and has nothing of the content.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    // Opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut content = Zeroizing::default();
    bounded_file::read_into(path, MAX_BYTES, &mut content).map_err(|error| error.to_string())?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_small_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("secret");
        assert!(read(&path).expect_err("not there").contains("No such file"));
        assert_eq!(read(folder.path()), Err("it is not a file".to_owned()));
        std::fs::write(&path, "secret\n").expect("the folder is writable");
        assert_eq!(read(&path).expect("a file").as_slice(), b"secret\n");
        std::fs::write(&path, vec![b'x'; MAX_BYTES]).expect("the folder is writable");
        assert_eq!(read(&path).expect("a file").len(), MAX_BYTES);
        std::fs::write(&path, vec![b'x'; MAX_BYTES + 1]).expect("the folder is writable");
        assert!(read(&path).expect_err("too large").contains("65536"));
    }
}
