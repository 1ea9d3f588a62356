//! JSON arrays as PostgreSQL array literals.

use super::scan::unescape;
#[cfg(test)]
use super::scan::{Kind, object};

/// `["a", null, 1]` becomes `{"a",NULL,"1"}`; nested arrays nest. `None`: not a JSON array (then the text
/// may be an array literal itself). Objects become their JSON text.
pub fn to_array_literal(json: &[u8]) -> Option<Vec<u8>> {
    if json.first() != Some(&b'[') {
        return None;
    }
    let mut out = Vec::with_capacity(json.len() + 8);
    append(json, 0, &mut out)?;
    Some(out)
}

fn append(array: &[u8], depth: usize, out: &mut Vec<u8>) -> Option<()> {
    // PostgreSQL has at most six dimensions.
    if depth > 6 {
        return None;
    }
    let inner = array.strip_prefix(b"[")?.strip_suffix(b"]")?;
    out.push(b'{');
    let mut rest = trim(inner);
    let mut first = true;
    while !rest.is_empty() {
        if !first {
            rest = trim(rest.strip_prefix(b",")?);
            out.push(b',');
        }
        first = false;
        let length = value_length(rest)?;
        if length == 0 {
            return None;
        }
        let (value, tail) = rest.split_at(length);
        match value[0] {
            b'n' => out.extend_from_slice(b"NULL"),
            b'[' => append(value, depth + 1, out)?,
            b'"' => {
                let mut text = Vec::with_capacity(value.len());
                unescape(&value[1..value.len() - 1], &mut text).ok()?;
                quote(&text, out);
            }
            _ => quote(value, out),
        }
        rest = trim(tail);
    }
    out.push(b'}');
    Some(())
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

/// Bytes of the JSON value at the start of valid JSON text.
fn value_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string_length(text),
        b'[' | b'{' => {
            let mut depth = 0usize;
            let mut at = 0;
            while at < text.len() {
                match text[at] {
                    b'"' => at += string_length(&text[at..])? - 1,
                    b'[' | b'{' => depth += 1,
                    b']' | b'}' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            None
        }
        _ => Some(text.iter().position(|b| matches!(b, b',' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(text.len())),
    }
}

fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The one member of `{"a": VALUE}`, for callers that have a bare value to check.
#[cfg(test)]
fn is_json(value: &str) -> bool {
    let mut nested = false;
    object(format!("{{\"a\":{value}}}").as_bytes(), |_, t| nested = t.kind == Kind::Nested).is_ok() && nested
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_become_literals() {
        for (json, literal) in [
            ("[]", "{}"),
            (r#"["a", null, 1.50 ,true]"#, r#"{"a",NULL,"1.50","true"}"#),
            (r#"["q\"b\\s", "é\u00e9"]"#, r#"{"q\"b\\s","éé"}"#),
            (r#"[[1,2],[3,4]]"#, r#"{{"1","2"},{"3","4"}}"#),
            (r#"[{"k": "]"}]"#, r#"{"{\"k\": \"]\"}"}"#),
        ] {
            assert!(is_json(json), "{json}");
            assert_eq!(String::from_utf8(to_array_literal(json.as_bytes()).unwrap()).unwrap(), literal);
        }
        assert_eq!(to_array_literal(b"{a,b}"), None);
    }
}
