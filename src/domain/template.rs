//! Scripts with names in them: `{prospectName}` or `{{prospectName}}` is replaced by the variable of that name.
//!
//! Pure. What looks like a name and has no value is an error that names it, found before anybody is dialed; braces around
//! anything else (JSON in a prompt, say) stay as they are.

use crate::domain::raw_json::Fields;

/// Why a script cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfilled {
    /// It names something that has no value.
    #[error("the script names {{{name}}}, which has no value for this callee")]
    Missing { name: String },
    /// A few bytes that name a long value again and again would fill the memory.
    #[error("the script would grow by more than {GROWTH_BYTES_MAX} bytes when its names are filled in")]
    TooLong,
}

/// A script grows by no more bytes than this when it is filled in: twice what all variables of a call may have.
pub const GROWTH_BYTES_MAX: usize = 128 * 1024;

/// Fills variables in.
///
/// # Errors
/// A name has no value, or there would be too much of it.
pub fn render(text: &str, variables: &Fields) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let doubled = after.starts_with('{');
        let inner = after.strip_prefix('{').unwrap_or(after);
        let closing = if doubled { "}}" } else { "}" };
        match inner.split_once(closing).map(|(name, behind)| (name.trim(), behind)).filter(|(name, _)| is_name(name)) {
            Some((name, behind)) => {
                filled.push_str(&value_of(name, variables)?);
                rest = behind;
                if filled.len() + rest.len() > text.len() + GROWTH_BYTES_MAX {
                    return Err(Unfilled::TooLong);
                }
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Texts, numbers as they were written, and yes or no.
fn value_of(name: &str, variables: &Fields) -> Result<String, Unfilled> {
    let written = variables.get(name).map(|raw| raw.get()).unwrap_or_default();
    let value = match written.bytes().next() {
        Some(b'"') => serde_json::from_str::<String>(written).ok().filter(|text| !text.trim().is_empty()),
        None | Some(b'{' | b'[' | b'n') => None,
        Some(_) => Some(written.to_owned()),
    };
    value.ok_or_else(|| Unfilled::Missing { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::raw_json::RawJson;
    use serde_json::json;

    fn filled(text: &str) -> Result<String, Unfilled> {
        let variables = json!({"prospectName": "Jo", "age": 7, "empty": " ", "nothing": null});
        render(text, &RawJson::from(variables).fields().expect("an object"))
    }

    #[test]
    fn names_are_filled_in_with_either_braces() {
        assert_eq!(filled("Hi {prospectName}, {{ prospectName }}! {age}").expect("filled"), "Hi Jo, Jo! 7");
        assert_eq!(filled("no names").expect("filled"), "no names");
    }

    #[test]
    fn a_name_without_a_value_is_told() {
        for (text, name) in [("Hi {city}", "city"), ("Hi {{empty}}", "empty"), ("{nothing}", "nothing")] {
            assert_eq!(filled(text), Err(Unfilled::Missing { name: name.to_owned() }));
        }
    }

    /// A long value named again and again is an error before it is written out.
    #[test]
    fn a_script_grows_within_bounds() {
        let variables = RawJson::from(json!({"a": "x".repeat(31_000)})).fields().expect("an object");
        assert_eq!(render(&"{a}".repeat(6000), &variables), Err(Unfilled::TooLong));
        assert_eq!(render(&"{a}".repeat(4), &variables).map(|text| text.len()), Ok(124_000));
    }

    #[test]
    fn braces_around_anything_else_stay() {
        let json = r#"Answer {"type": "x"} or {} or { 1 } { prospectName"#;
        assert_eq!(filled(json).expect("filled"), json);
    }
}
