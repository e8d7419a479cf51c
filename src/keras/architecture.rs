//! Architecture of a network without weights, as `to_json` and `to_yaml` write it.

use serde_json::Value;

use super::yaml;

/// Maximum size of the text, in bytes.
pub const MAX_TEXT: u64 = 16 << 20;

/// Architecture, and the Keras that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// Class and configuration of the model, as JSON text.
    pub config: String,
    /// Keras version, if the text states one; Keras 3 states none.
    pub keras_version: Option<String>,
    /// Keras backend, such as `tensorflow`, if the text states one.
    pub backend: Option<String>,
}

/// Parses the text of an architecture. A text that begins with a brace or a quotation mark is JSON,
/// any other is YAML.
///
/// # Errors
/// If the text is neither, or has no class and configuration.
pub fn parse(bytes: &[u8]) -> Result<Architecture, String> {
    const WANTED: &str = "write one with open(\"model.json\", \"w\").write(model.to_json())";
    let text = std::str::from_utf8(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
        .map_err(|_| format!("it is no text in UTF-8, so no architecture; {WANTED}"))?;
    let start = text.trim_start();
    let json = |text: &str| serde_json::from_str::<Value>(text);
    let root = match start.starts_with(['{', '"']) {
        true => json(text).map_err(|e| format!("it is no valid JSON: {e}; {WANTED}"))?,
        false => {
            yaml::parse(text).map_err(|e| format!("it is neither JSON nor YAML ({e}); {WANTED}"))?
        }
    };
    // json.dump(model.to_json()) writes the text as a string.
    let root = match &root {
        Value::String(inner) => {
            json(inner).map_err(|e| format!("it is no valid JSON: {e}; {WANTED}"))?
        }
        _ => root,
    };
    if !root.get("class_name").is_some_and(Value::is_string) || root.get("config").is_none() {
        return Err(format!(
            "it has no class_name and config, so it is no architecture of a Keras model; {WANTED}"
        ));
    }
    let word = |key: &str| root.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(Architecture {
        keras_version: word("keras_version"),
        backend: word("backend"),
        config: root.to_string(),
    })
}
