//! XML as S3 writes it.

/// Appends an element. Characters that XML does not allow are left out: they only occur in keys from the request.
pub(crate) fn push_element(xml: &mut String, name: &str, text: &str) {
    xml.extend(["<", name, ">"]);
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            '\t' => xml.push_str("&#9;"),
            '\n' => xml.push_str("&#10;"),
            '\r' => xml.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => xml.push(c),
        }
    }
    xml.extend(["</", name, ">"]);
}
