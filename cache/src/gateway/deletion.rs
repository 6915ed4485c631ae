//! The list of a DeleteObjects request: parsed once, and written again for S3 from what was parsed.
//!
//! Servers read prefixes, CDATA, repeated and unknown elements differently. So none of the client's text is sent on,
//! and an element is refused if it might choose or spare an object in a way that is not known here.

use std::collections::BTreeSet;

use bytes::Bytes;
use quick_xml::NsReader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesRef, Event};
use quick_xml::name::ResolveResult;

use crate::web::failure::Failure;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// S3's own limit.
const MOST_OBJECTS: usize = 1000;

/// The elements of an object, in the order of S3's schema. All but the key are conditions: leaving one out would delete
/// more than was asked for.
const FIELDS: [&str; 5] = ["Key", "VersionId", "ETag", "LastModifiedTime", "Size"];

/// A parsed list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Deletion {
    objects: Vec<Chosen>,
    quiet: Option<bool>,
}

/// One of its objects, by [`FIELDS`].
type Chosen = [Option<String>; FIELDS.len()];

impl Deletion {
    /// Reads a request's body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        read(body).map_err(|unfit| {
            Failure::bad(
                "MalformedXML",
                format_args!(
                    "The XML you provided was not well-formed or did not validate against our published schema: {}",
                    unfit.0
                ),
            )
        })
    }

    /// The keys, whichever version is named.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        let keys = self.objects.iter().filter_map(|object| object[0].clone());
        keys.collect()
    }

    /// The body that S3 gets.
    pub(super) fn to_xml(&self) -> Bytes {
        let mut xml = format!("<Delete xmlns=\"{NAMESPACE}\">");
        for object in &self.objects {
            xml.push_str("<Object>");
            for (name, value) in FIELDS.iter().zip(object) {
                if let Some(value) = value {
                    element(&mut xml, name, value);
                }
            }
            xml.push_str("</Object>");
        }
        if let Some(quiet) = self.quiet {
            element(&mut xml, "Quiet", if quiet { "true" } else { "false" });
        }
        xml.push_str("</Delete>");
        xml.into()
    }
}

/// An element with exactly this text; a bare carriage return would be read as a line feed.
fn element(xml: &mut String, name: &str, text: &str) {
    xml.extend(["<", name, ">"]);
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '\r' => xml.push_str("&#13;"),
            c => xml.push(c),
        }
    }
    xml.extend(["</", name, ">"]);
}

/// Why a body is not a valid list.
#[derive(Debug)]
struct Unfit(String);

impl Unfit {
    fn because(why: &str) -> Self {
        Self(why.to_owned())
    }
}

impl From<quick_xml::Error> for Unfit {
    fn from(error: quick_xml::Error) -> Self {
        Self(error.to_string())
    }
}

/// A piece of XML, reduced to what matters.
enum XmlToken {
    /// A start tag; its local name.
    Open(String),
    Close,
    Text(String),
    End,
}

struct XmlTokens<'a> {
    xml: NsReader<&'a [u8]>,
    /// The root's namespace, empty when it has none: all elements must have the same.
    namespace: Option<Vec<u8>>,
    begun: bool,
}

impl<'a> XmlTokens<'a> {
    fn new(body: &'a [u8]) -> Self {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let mut xml = NsReader::from_reader(body);
        let config = xml.config_mut();
        config.expand_empty_elements = true;
        config.check_comments = true;
        Self {
            xml,
            namespace: None,
            begun: false,
        }
    }

    fn next(&mut self) -> Result<XmlToken, Unfit> {
        loop {
            let first = !std::mem::replace(&mut self.begun, true);
            let (namespace, event) = self.xml.read_resolved_event()?;
            let text = match event {
                Event::Start(tag) => {
                    let namespace = match namespace {
                        ResolveResult::Unbound => Vec::new(),
                        ResolveResult::Bound(namespace) => namespace.as_ref().to_vec(),
                        ResolveResult::Unknown(prefix) => {
                            let prefix = String::from_utf8_lossy(&prefix);
                            return Err(Unfit(format!("the prefix {prefix:?} is not declared")));
                        }
                    };
                    let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                    if *self.namespace.get_or_insert_with(|| namespace.clone()) != namespace {
                        return Err(Unfit(format!(
                            "<{name}> must be in the namespace of <Delete>"
                        )));
                    }
                    return Ok(XmlToken::Open(name));
                }
                Event::End(_) => return Ok(XmlToken::Close),
                Event::Eof => return Ok(XmlToken::End),
                Event::Comment(_) | Event::PI(_) => continue,
                Event::Decl(declared) if first => {
                    check(&declared)?;
                    continue;
                }
                Event::Decl(_) => {
                    return Err(Unfit::because("the XML declaration must come first"));
                }
                Event::DocType(_) => {
                    return Err(Unfit::because("document types are not supported"));
                }
                Event::Text(text) => text
                    .xml10_content()
                    .map_err(quick_xml::Error::from)?
                    .into_owned(),
                Event::CData(text) => text
                    .xml10_content()
                    .map_err(quick_xml::Error::from)?
                    .into_owned(),
                Event::GeneralRef(reference) => resolve(&reference)?,
                Event::Empty(_) => return Err(Unfit::because("an empty element was not expanded")),
            };
            if let Some(c) = text.chars().find(|c| !is_of_xml(*c)) {
                return Err(Unfit(format!("{c:?} is not allowed in XML")));
            }
            return Ok(XmlToken::Text(text));
        }
    }

    /// The text up to the end tag of the element that was opened.
    fn text(&mut self, of: &str) -> Result<String, Unfit> {
        let mut whole = String::new();
        loop {
            match self.next()? {
                XmlToken::Text(text) => whole.push_str(&text),
                XmlToken::Close => return Ok(whole),
                XmlToken::Open(name) => {
                    return Err(Unfit(format!("<{of}> must not contain <{name}>")));
                }
                XmlToken::End => return Err(Unfit(format!("<{of}> is not closed"))),
            }
        }
    }

    /// The name of the next element in the one that was opened; `None` at its end.
    fn child(&mut self, of: &str) -> Result<Option<String>, Unfit> {
        loop {
            match self.next()? {
                XmlToken::Open(name) => return Ok(Some(name)),
                XmlToken::Close => return Ok(None),
                XmlToken::Text(text) if is_blank(&text) => {}
                XmlToken::Text(_) => return Err(Unfit(format!("<{of}> must not contain text"))),
                XmlToken::End => return Err(Unfit(format!("<{of}> is not closed"))),
            }
        }
    }
}

fn read(body: &[u8]) -> Result<Deletion, Unfit> {
    let mut pieces = XmlTokens::new(body);
    loop {
        match pieces.next()? {
            XmlToken::Open(name) if name == "Delete" => break,
            XmlToken::Text(text) if is_blank(&text) => {}
            _ => return Err(Unfit::because("the root must be <Delete>")),
        }
    }
    let mut list = Deletion::default();
    while let Some(name) = pieces.child("Delete")? {
        match name.as_str() {
            "Object" => list.objects.push(read_object(&mut pieces)?),
            "Quiet" if list.quiet.is_none() => {
                list.quiet = match pieces.text("Quiet")?.trim() {
                    "true" | "1" => Some(true),
                    "false" | "0" => Some(false),
                    _ => return Err(Unfit::because("<Quiet> must be true or false")),
                };
            }
            _ => return Err(unexpected(&name, "Delete")),
        }
    }
    loop {
        match pieces.next()? {
            XmlToken::End => break,
            XmlToken::Text(text) if is_blank(&text) => {}
            _ => return Err(Unfit::because("nothing may follow </Delete>")),
        }
    }
    match list.objects.len() {
        0 => Err(Unfit::because("it must name at least one object")),
        count if count > MOST_OBJECTS => Err(Unfit(format!(
            "it must name at most {MOST_OBJECTS} objects; got {count}"
        ))),
        _ => Ok(list),
    }
}

fn read_object(pieces: &mut XmlTokens<'_>) -> Result<Chosen, Unfit> {
    let mut object = Chosen::default();
    while let Some(name) = pieces.child("Object")? {
        let field = FIELDS.iter().zip(&mut object);
        let mut field = field.filter(|(field, value)| **field == name && value.is_none());
        let Some((_, value)) = field.next() else {
            return Err(unexpected(&name, "Object"));
        };
        *value = Some(pieces.text(&name)?);
    }
    match &object[0] {
        Some(key) if !key.is_empty() => Ok(object),
        _ => Err(Unfit::because("each <Object> must have a <Key>")),
    }
}

fn unexpected(name: &str, of: &str) -> Unfit {
    Unfit(format!("<{name}> is unknown in <{of}>, or repeated"))
}

fn check(declared: &BytesDecl<'_>) -> Result<(), Unfit> {
    let version = declared.version()?;
    let encoding = declared.encoding().transpose();
    let encoding = encoding.map_err(|error| Unfit(error.to_string()))?;
    let is_utf8 =
        |name: &[u8]| name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"us-ascii");
    if version.as_ref() != b"1.0" || !encoding.is_none_or(|name| is_utf8(&name)) {
        return Err(Unfit::because("it must be XML 1.0 in UTF-8"));
    }
    Ok(())
}

fn resolve(reference: &BytesRef<'_>) -> Result<String, Unfit> {
    if let Some(c) = reference.resolve_char_ref()? {
        return Ok(c.into());
    }
    let name = reference.decode().map_err(quick_xml::Error::from)?;
    let text = resolve_xml_entity(&name);
    text.map(str::to_owned)
        .ok_or_else(|| Unfit(format!("&{name}; is not declared")))
}

fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

fn is_of_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(objects: &[&str]) -> Deletion {
        let chosen = |key: &&str| [Some((*key).to_owned()), None, None, None, None];
        Deletion {
            objects: objects.iter().map(chosen).collect(),
            quiet: None,
        }
    }

    fn keys(body: &str) -> Vec<String> {
        Deletion::parse(body.as_bytes())
            .unwrap()
            .keys()
            .into_iter()
            .collect()
    }

    #[test]
    fn the_keys_of_a_list_are_exact() {
        for (text, key) in [
            ("a b&amp;c", "a b&c"),
            ("&lt;x&gt;", "<x>"),
            (" a ", " a "),
            ("&#x1F600;&#65;", "\u{1f600}A"),
            ("a\r\nb", "a\nb"),
            ("a&#13;&#10;b", "a\r\nb"),
            ("<![CDATA[private/]]>models/b", "private/models/b"),
            ("pri<!-- models/ -->vate<?p i?>/a", "private/a"),
        ] {
            let body = format!("<Delete><Object><Key>{text}</Key></Object></Delete>");
            assert_eq!(keys(&body), [key], "{text}");
        }
    }

    #[test]
    fn what_is_sent_holds_what_was_read_and_none_of_the_clients_text() {
        let body = format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><!-- a -->\n<s:Delete xmlns:s=\"{NAMESPACE}\"> <s:Quiet>true</s:Quiet>\
             <s:Object a=\"b\"><s:VersionId>3</s:VersionId><s:Key>a&#13;<![CDATA[<&]]></s:Key><s:Size>7</s:Size>\
             <s:ETag>\"e\"</s:ETag></s:Object></s:Delete>\n"
        );
        let sent = Deletion::parse(body.as_bytes()).unwrap().to_xml();
        let want = format!(
            "<Delete xmlns=\"{NAMESPACE}\"><Object><Key>a&#13;&lt;&amp;</Key><VersionId>3</VersionId><ETag>\"e\"</ETag>\
             <Size>7</Size></Object><Quiet>true</Quiet></Delete>"
        );
        assert_eq!(sent, want);
    }

    #[test]
    fn what_may_choose_an_object_in_a_way_that_is_not_known_is_refused() {
        let a = "<Object><Key>a</Key></Object>";
        for body in [
            String::new(),
            "<Delete>".to_owned(),
            "<Delete></Delete>".to_owned(),
            "<Other></Other>".to_owned(),
            format!("<Delete>{a}"),
            format!("<Delete>{a}</Delete><Delete>{a}</Delete>"),
            format!("<Delete>{a}text</Delete>"),
            format!("<Delete>{a}<New>1</New></Delete>"),
            format!("<Delete>{a}<s:Object><s:Key>b</s:Key></s:Object></Delete>"),
            format!("<Delete xmlns:s=\"urn:s\">{a}<s:Object><s:Key>b</s:Key></s:Object></Delete>"),
            format!(
                "<Delete xmlns=\"{NAMESPACE}\">{a}<Object xmlns=\"\"><Key>b</Key></Object></Delete>"
            ),
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>".to_owned(),
            "<Delete><Object><Key>a<b/></Key></Object></Delete>".to_owned(),
            "<Delete><Object><Key></Key></Object></Delete>".to_owned(),
            "<Delete><Object><VersionId>1</VersionId></Object></Delete>".to_owned(),
            "<Delete><Object><Key>a</Key><New>1</New></Object></Delete>".to_owned(),
            "<Delete><Object><Key>a</key></Object></Delete>".to_owned(),
            "<Delete><Object><Key>&e;</Key></Object></Delete>".to_owned(),
            "<Delete><Object><Key>&#1;</Key></Object></Delete>".to_owned(),
            "<Delete><Object><Key>\u{1}</Key></Object></Delete>".to_owned(),
            format!("<!DOCTYPE Delete [<!ENTITY e \"b\">]><Delete>{a}</Delete>"),
            format!("<?xml version=\"1.1\"?><Delete>{a}</Delete>"),
            format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete>{a}</Delete>"),
            format!("<Delete>{a}<Quiet>yes</Quiet></Delete>"),
            format!("<Delete>{a}<Quiet>true</Quiet><Quiet>false</Quiet></Delete>"),
            format!("<Delete>{}</Delete>", a.repeat(1001)),
        ] {
            let refused = Deletion::parse(body.as_bytes());
            assert_eq!(
                refused.map_err(|it| it.code().to_owned()),
                Err("MalformedXML".to_owned()),
                "{body}"
            );
        }
        assert!(Deletion::parse(b"<Delete><Object><Key>\xff</Key></Object></Delete>").is_err());
        let most = format!("<Delete>{}</Delete>", a.repeat(1000));
        assert!(Deletion::parse(most.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read_as_what_was_meant(keys in prop::collection::vec("\\PC{1,20}|[\r\n\t &<>;#a-]{1,20}", 1..5)) {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            prop_assume!(keys.iter().all(|key| key.chars().all(is_of_xml)));
            let meant = list(&keys);
            prop_assert_eq!(Deletion::parse(&meant.to_xml()).unwrap(), meant);
        }

        #[test]
        fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Deletion::parse(&body);
        }
    }
}
