//! From a path or a text to a [`Config`].

use std::io::Read as _;
use std::path::Path;

use super::error::{ConfigError, Source};
use super::model::Config;
use super::{file, validate};

/// Larger files are refused unread.
const MAX_FILE_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// The file is missing, a directory, unreadable, above 1 MiB or not UTF-8; or all [`super::Problem`]s of its contents.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        Self::from_toml_str(&name, &read_config(path)?)
    }

    /// Checks TOML text. `name` stands for the file in errors, and in the path of the list of subscribers.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all problems of the text.
    pub fn from_toml_str(name: &str, text: &str) -> Result<Self, ConfigError> {
        Self::from_toml_str_with(name, text, &|path| read_list(path))
    }

    /// As [`Config::from_toml_str`], with another way to the list of subscribers than the file system.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_toml_str_with(name: &str, text: &str, list: &ReadList<'_>) -> Result<Self, ConfigError> {
        let source = Source::new(name, text);
        let (file, problems) = file::read(&source);
        validate::validate(&source, &file, problems, list)
    }
}

/// Reads the list of subscribers.
pub type ReadList<'a> = dyn Fn(&Path) -> std::io::Result<String> + 'a;

/// The text of a configuration file.
///
/// # Errors
///
/// As [`Config::load`], but for the contents.
pub fn read_config(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { path: name.clone(), source };
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.is_dir() {
        return Err(ConfigError::Directory { path: name });
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: name });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::not_utf8(&name, &error))
}

/// Bytes of a list of subscribers: a million lines of 256 bytes.
const MAX_LIST_BYTES: u64 = 256 << 20;

fn read_list(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_LIST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 256 MiB"));
    }
    Ok(text)
}
