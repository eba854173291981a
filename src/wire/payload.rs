//! Payloads in, and out in the view that was asked for.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::encoding::TextEncoding;
use crate::model::payload::{Fill, Pattern, PayloadForm, PayloadView, Shown, parse_hex, with_crlf};
use crate::model::placeholder;
use crate::model::refusal::Violation;
use crate::wire::{known, pb};

// === In ===

/// The bytes that a request's payload means, at most `limit` of them.
pub(super) fn bytes(payload: pb::Payload, limit: u32) -> Result<Bytes, Violation> {
    use pb::payload::Content;

    let pb::Payload { content, encoding, offset, length, crlf } = payload;
    if !encoding.is_empty() && !matches!(content, Some(Content::Text(_))) {
        return Err(Violation::new("encoding", "only `text` has an encoding"));
    }
    if crlf && !matches!(content, Some(Content::Text(_))) {
        return Err(Violation::new("crlf", "only `text` has line ends"));
    }
    let at = |field: &'static str| move |problem| Violation { field: field.to_owned(), problem };
    let too_long = |field: &'static str, size: usize| {
        if size <= limit as usize {
            return Ok(());
        }
        Err(Violation::new(
            field,
            format!("{size} bytes are more than limits.payload_bytes of this agent, {limit}: send them in parts"),
        ))
    };
    let bytes = match content {
        None => return Err(Violation::new("content", "one of `text`, `hex`, `data` and `pattern` is needed")),
        Some(Content::Text(text)) => {
            let encoding = TextEncoding::from_label(&encoding).map_err(at("encoding"))?;
            let text = if crlf { with_crlf(&text) } else { text };
            let bytes =
                if encoding.is_utf8() { Bytes::from(text) } else { encoding.encode(&text).map_err(at("text"))?.into() };
            too_long("text", bytes.len())?;
            bytes
        }
        Some(Content::Hex(text)) => {
            let bytes = parse_hex(&text).map_err(at("hex"))?;
            too_long("hex", bytes.len())?;
            bytes
        }
        Some(Content::Data(bytes)) => {
            too_long("data", bytes.len())?;
            bytes
        }
        Some(Content::Pattern(pattern)) => {
            too_long("pattern.size", pattern.size as usize)?;
            pattern_of(pattern).bytes().map_err(at("pattern"))?
        }
    };
    part(&bytes, offset, length)
}

/// The same, where the agent is to fill places in them.
pub(super) fn template(payload: pb::Payload, limit: u32) -> Result<Bytes, Violation> {
    if !TextEncoding::from_label(&payload.encoding).is_ok_and(|encoding| encoding.is_utf8()) {
        return Err(Violation::new("encoding", "a template is UTF-8: the second bytes of others may look like braces"));
    }
    let field = match &payload.content {
        Some(pb::payload::Content::Hex(_)) => "hex",
        Some(pb::payload::Content::Data(_)) => "data",
        Some(pb::payload::Content::Pattern(_)) => "pattern",
        Some(pb::payload::Content::Text(_)) | None => "text",
    };
    let template = bytes(payload, limit)?;
    placeholder::check(&template).map_err(|problem| Violation { field: field.to_owned(), problem })?;
    Ok(template)
}

fn pattern_of(sent: pb::Pattern) -> Pattern {
    let fill = match sent.fill {
        None => Fill::Counting,
        Some(pb::pattern::Fill::Repeat(text)) => Fill::Repeat(text),
        Some(pb::pattern::Fill::Seed(seed)) => Fill::Random(seed),
    };
    Pattern { size: sent.size, start: sent.start, fill }
}

/// What all that a socket receives is compared with.
pub(super) fn verified_by(sent: Option<&pb::Pattern>) -> Result<Option<Arc<Pattern>>, Violation> {
    let Some(sent) = sent else { return Ok(None) };
    let pattern = pattern_of(sent.clone());
    pattern.fill.check().map_err(|problem| Violation { field: "verify".to_owned(), problem })?;
    Ok(Some(Arc::new(pattern)))
}

/// A pattern as a message has it.
pub(super) fn write_pattern(pattern: &Pattern) -> pb::Pattern {
    let fill = match &pattern.fill {
        Fill::Counting => None,
        Fill::Repeat(text) => Some(pb::pattern::Fill::Repeat(text.clone())),
        Fill::Random(seed) => Some(pb::pattern::Fill::Seed(*seed)),
    };
    pb::Pattern { size: pattern.size, start: pattern.start, fill }
}

/// The part of the bytes that was asked for.
fn part(bytes: &Bytes, offset: Option<u32>, length: Option<u32>) -> Result<Bytes, Violation> {
    let from = offset.map_or(0, |offset| offset as usize);
    if from > bytes.len() {
        return Err(Violation::new("offset", format!("the payload has only {} bytes", bytes.len())));
    }
    let through = length.map_or(bytes.len(), |length| from + length as usize);
    if through > bytes.len() {
        return Err(Violation::new(
            "length",
            format!("from offset {from} the payload has only {} bytes", bytes.len() - from),
        ));
    }
    Ok(bytes.slice(from..through))
}

/// How a caller wants to see payloads.
pub fn view(view: Option<&pb::PayloadView>) -> Result<PayloadView, Violation> {
    let Some(view) = view else { return Ok(PayloadView::default()) };
    Ok(PayloadView {
        form: match known("view.form", view.form)? {
            pb::PayloadForm::Unspecified | pb::PayloadForm::Auto => PayloadForm::Auto,
            pb::PayloadForm::Text => PayloadForm::Text,
            pb::PayloadForm::Hex => PayloadForm::Hex,
            pb::PayloadForm::Data => PayloadForm::Data,
            pb::PayloadForm::None => PayloadForm::None,
        },
        encoding: TextEncoding::from_label(&view.encoding)
            .map_err(|problem| Violation { field: "view.encoding".to_owned(), problem })?,
        max_bytes: (view.max_bytes > 0).then_some(view.max_bytes),
    })
}

// === Out ===

/// Bytes in a view, and whether it shows only the first of them.
pub(super) fn shown(bytes: &Bytes, view: &PayloadView) -> (Option<pb::Payload>, bool) {
    use pb::payload::Content;

    let (shown, cut) = view.show(bytes);
    let payload = |content, encoding| Some(pb::Payload { content: Some(content), encoding, ..pb::Payload::default() });
    let payload = match shown {
        Shown::Text(text) => payload(Content::Text(text.into_owned()), encoding(view)),
        Shown::Hex(hex) => payload(Content::Hex(hex), String::new()),
        Shown::Data(data) => payload(Content::Data(bytes.slice_ref(data)), String::new()),
        Shown::Nothing => None,
    };
    (payload, cut)
}

/// What a payload that is shown as text says of its encoding.
pub(super) fn encoding(view: &PayloadView) -> String {
    if view.encoding.is_utf8() { String::new() } else { view.encoding.name() }
}

/// The bytes of a payload that was asked for as data, as a client of ours does.
pub(super) fn read_data(payload: Option<&pb::Payload>) -> Bytes {
    match payload.and_then(|payload| payload.content.as_ref()) {
        Some(pb::payload::Content::Data(data)) => data.clone(),
        Some(pb::payload::Content::Text(text)) => text.clone().into(),
        Some(pb::payload::Content::Hex(hex)) => parse_hex(hex).unwrap_or_default(),
        Some(pb::payload::Content::Pattern(_)) | None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::payload::Content;

    const LIMIT: u32 = 10;

    fn payload(content: Content) -> pb::Payload {
        pb::Payload { content: Some(content), ..Default::default() }
    }

    fn text(text: &str, encoding: &str) -> pb::Payload {
        pb::Payload { encoding: encoding.into(), ..payload(Content::Text(text.into())) }
    }

    #[test]
    fn every_form_becomes_bytes() {
        assert_eq!(bytes(text("hola\r\n", ""), LIMIT).unwrap(), "hola\r\n");
        assert_eq!(bytes(text("ñ", "latin1"), LIMIT).unwrap()[..], [0xf1]);
        assert_eq!(bytes(payload(Content::Hex("48 69".into())), LIMIT).unwrap(), "Hi");
        assert_eq!(bytes(payload(Content::Data("Hi".into())), LIMIT).unwrap(), "Hi");
        let pattern = pb::Pattern { size: 3, start: 0, fill: Some(pb::pattern::Fill::Repeat("ab".into())) };
        assert_eq!(bytes(payload(Content::Pattern(pattern)), LIMIT).unwrap(), "aba");
    }

    #[test]
    fn a_part_can_be_sent() {
        let cut = |offset, length| bytes(pb::Payload { offset, length, ..text("0123456789", "") }, LIMIT);
        assert_eq!(cut(Some(2), Some(3)).unwrap(), "234");
        assert_eq!(cut(Some(8), None).unwrap(), "89");
        assert_eq!(cut(None, Some(0)).unwrap(), "");
        assert_eq!(cut(Some(11), None).unwrap_err().field, "offset");
        assert_eq!(cut(Some(8), Some(3)).unwrap_err().field, "length");
        assert_eq!(cut(Some(u32::MAX), Some(u32::MAX)).unwrap_err().field, "offset");
    }

    #[test]
    fn lines_end_as_the_protocols_of_the_internet_want_it() {
        let sent = |line: &str, encoding| bytes(pb::Payload { crlf: true, ..text(line, encoding) }, LIMIT).unwrap();
        assert_eq!(sent("a\nb\n", ""), "a\r\nb\r\n");
        assert_eq!(sent("a\r\n\n\r", ""), "a\r\n\r\n\r");
        assert_eq!(sent("ab", ""), "ab");
        assert_eq!(sent("\n", "utf-16le"), &b"\r\0\n\0"[..]);
        // The limit counts what is sent.
        assert!(bytes(pb::Payload { crlf: true, ..text("12345678\n\n", "") }, LIMIT).is_err());
    }

    #[test]
    fn a_template_is_checked_before_it_is_taken() {
        assert_eq!(template(text("tick {number}", "utf-8"), 20).unwrap(), "tick {number}");
        let wrong = |payload| template(payload, LIMIT).unwrap_err().field;
        assert_eq!(wrong(text("{now}", "")), "text");
        assert_eq!(wrong(payload(Content::Hex("7b".into()))), "hex");
        assert_eq!(wrong(payload(Content::Data("}".into()))), "data");
        assert_eq!(wrong(text("{time}", "gbk")), "encoding");
        assert_eq!(wrong(text("x", "utf-9")), "encoding");
    }

    #[test]
    fn what_is_wrong_names_its_field_and_what_would_be_right() {
        let field = |payload| bytes(payload, LIMIT).unwrap_err().field;
        assert_eq!(field(pb::Payload { crlf: true, ..payload(Content::Hex("0a".into())) }), "crlf");
        assert_eq!(field(pb::Payload::default()), "content");
        assert_eq!(field(payload(Content::Hex("4".into()))), "hex");
        assert_eq!(field(text("x", "utf-9")), "encoding");
        assert_eq!(field(text("你", "latin1")), "text");
        assert_eq!(field(pb::Payload { encoding: "gbk".into(), ..payload(Content::Data("x".into())) }), "encoding");
        assert_eq!(field(payload(Content::Pattern(pb::Pattern::default()))), "pattern");
        assert_eq!(
            field(payload(Content::Pattern(pb::Pattern { size: u32::MAX, start: 0, fill: None }))),
            "pattern.size"
        );
        let too_long = bytes(text("01234567890", ""), LIMIT).unwrap_err();
        assert!(too_long.problem.to_string().contains("limits.payload_bytes"), "{}", too_long.problem);
        // The limit counts encoded bytes, not characters.
        assert!(bytes(text("012345", "utf-16le"), LIMIT).is_err());
    }

    #[test]
    fn views_are_read_and_shown() {
        let asked = pb::PayloadView { form: pb::PayloadForm::Hex.into(), encoding: String::new(), max_bytes: 1 };
        let (payload, cut) = shown(&Bytes::from_static(b"Hi"), &view(Some(&asked)).unwrap());
        assert_eq!((payload.unwrap().content, cut), (Some(Content::Hex("48".into())), true));
        assert_eq!(view(Some(&pb::PayloadView { form: 99, ..asked.clone() })).unwrap_err().field, "view.form");
        assert_eq!(view(Some(&pb::PayloadView { encoding: "x".into(), ..asked })).unwrap_err().field, "view.encoding");
    }
}
