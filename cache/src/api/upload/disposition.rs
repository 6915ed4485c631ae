//! `Content-Disposition` of a form's part, by RFC 2183 and RFC 7578: parameter names in any case, values quoted or not,
//! in UTF-8. The form parser only knows lower-case names and keeps escapes.

/// The parameter `name` of a part's `Content-Disposition`; `None` when it is missing or not UTF-8.
pub(super) fn parameter(disposition: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(disposition).ok()?;
    let (_kind, mut rest) = text.split_once(';')?;
    loop {
        let (own, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start());
        if own.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        (_, rest) = after.split_once(';')?;
    }
}

/// The value at the beginning of `text`, and the text after it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut rest = quoted.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '"' => break,
            // Browsers don't escape backslashes, and curl escapes only quotes and backslashes: before another letter it
            // is plain.
            '\\' => match rest.clone().next() {
                Some(escaped @ ('"' | '\\')) => {
                    value.push(escaped);
                    rest.next();
                }
                _ => value.push(letter),
            },
            _ => value.push(letter),
        }
    }
    (value, rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_values_without_their_escapes() {
        for (line, name, file) in [
            (
                r#"form-data; name="files"; filename="a b.bin""#,
                "files",
                "a b.bin",
            ),
            (r#"form-data; Name="files"; FileName="a""#, "files", "a"),
            (
                r"form-data;name=files;filename=a.bin ; x=y",
                "files",
                "a.bin",
            ),
            (
                r#"form-data; filename="a\\b\"c"; name=files"#,
                "files",
                r#"a\b"c"#,
            ),
            (
                r#"form-data; name="files"; filename="C:\dir\f""#,
                "files",
                r"C:\dir\f",
            ),
            (
                r#"form-data; name="files"; filename="a;name=x""#,
                "files",
                "a;name=x",
            ),
            (
                r#"form-data; name="files"; filename="résumé=1""#,
                "files",
                "résumé=1",
            ),
        ] {
            let told = |name| parameter(line.as_bytes(), name);
            assert_eq!(told("name").as_deref(), Some(name), "{line}");
            assert_eq!(told("filename").as_deref(), Some(file), "{line}");
        }
        assert_eq!(parameter(b"form-data", "name"), None);
        assert_eq!(parameter(b"form-data; name=\"files\"", "filename"), None);
        assert_eq!(parameter(b"form-data; name=\"\xff\"", "name"), None);
    }
}
