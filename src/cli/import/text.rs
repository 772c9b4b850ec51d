//! Configurations as text.

use std::fmt::Write as _;
use std::path::Path;

use super::Imported;

/// A TOML basic string. JSON escapes the same characters in the same way.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The configuration with one table for each subscriber.
pub(super) fn with_tables(imported: &Imported) -> String {
    let mut text = imported.config.clone();
    for [name, prefixes, plan] in &imported.subscribers {
        let prefixes: Vec<String> = prefixes.split(' ').map(quoted).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[[subscriber]]\nname = {}\nprefixes = [{}]\nplan = {}\n",
            quoted(name),
            prefixes.join(", "),
            quoted(plan)
        );
    }
    text
}

/// The configuration with its subscribers in the file `csv`.
pub(super) fn with_list(imported: &Imported, csv: &Path) -> String {
    // A path in the configuration is relative to it, and it is not known where that will be.
    let file = csv.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    format!("{}\n[subscribers]\nfile = {}\n", imported.config, quoted(&file))
}

/// The list of subscribers.
pub(super) fn list(subscribers: &[[String; 3]]) -> String {
    let mut text = "name,prefixes,plan\n".to_owned();
    for fields in subscribers {
        let fields: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}

/// A field as RFC 4180 section 2 wants it.
fn csv_field(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
