//! Payloads: how bytes are written in a request, and how they are shown to whoever reads them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::encoding::TextEncoding;
use crate::model::refusal::Problem;

/// Bytes that are described instead of listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// How many. Of bytes that are expected: after how many they start over; zero: never.
    pub size: u32,
    /// How many are left out in front.
    pub start: u64,
    /// What they are.
    pub fill: Fill,
}

/// What a pattern repeats.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fill {
    /// 00 01 02 … ff.
    Counting,
    /// This text, in UTF-8.
    Repeat(String),
    /// The SplitMix64 sequence from this seed.
    Random(u64),
}

impl Pattern {
    /// Makes the bytes.
    pub fn bytes(&self) -> Result<Bytes, Problem> {
        let size = self.size as usize;
        if size == 0 {
            return Err(Problem::new("size: a pattern has at least one byte"));
        }
        self.fill.check()?;
        let mut bytes = BytesMut::with_capacity(size + 8);
        self.fill.write(self.start, size, &mut bytes);
        Ok(bytes.freeze())
    }
}

impl Fill {
    /// Whether there is something to fill with.
    pub fn check(&self) -> Result<(), Problem> {
        match self {
            Self::Repeat(text) if text.is_empty() => Err(Problem::new("repeat: there is nothing to repeat")),
            _ => Ok(()),
        }
    }

    /// Appends so many of its bytes, from this place of the endless sequence on.
    pub fn write(&self, start: u64, size: usize, into: &mut BytesMut) {
        let whole = into.len() + size;
        match self {
            Self::Counting => into.extend((0..=u8::MAX).cycle().skip(start.to_le_bytes()[0].into()).take(size)),
            Self::Repeat(text) => {
                let skipped = start.checked_rem(text.len() as u64).unwrap_or(0);
                into.extend(text.bytes().cycle().skip(usize::try_from(skipped).unwrap_or(0)).take(size));
            }
            Self::Random(seed) => {
                let mut state = seed.wrapping_add(GAMMA.wrapping_mul(start / 8));
                let skipped = usize::from(start.to_le_bytes()[0] % 8);
                into.put_slice(&split_mix(&mut state).to_le_bytes()[skipped..]);
                while into.len() < whole {
                    into.put_u64_le(split_mix(&mut state));
                }
                into.truncate(whole);
            }
        }
    }
}

/// How far the state of SplitMix64 goes with each number.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(GAMMA);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Reads hexadecimal digits, two a byte; blanks, `:` and `-` may stand between bytes.
pub fn parse_hex(text: &str) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::with_capacity(text.len() / 2);
    let mut high: Option<u32> = None;
    for (at, c) in text.chars().enumerate() {
        match (c.to_digit(16), high) {
            (Some(digit), None) => high = Some(digit),
            (Some(low), Some(digit)) => {
                bytes.put_u8(u8::try_from(digit * 16 + low).unwrap_or(0));
                high = None;
            }
            (None, None) if c.is_ascii_whitespace() || c == ':' || c == '-' => {}
            (None, None) => return Err(no_digit(c, at)),
            (None, Some(_)) if c.is_ascii_whitespace() || c == ':' || c == '-' => {
                return Err(Problem::new(format!("character {at} stands alone: two digits a byte are needed")));
            }
            (None, Some(_)) => return Err(no_digit(c, at)),
        }
    }
    match high {
        None => Ok(bytes.freeze()),
        Some(_) => Err(Problem::new("an odd number of digits: two a byte are needed")),
    }
}

fn no_digit(c: char, at: usize) -> Problem {
    Problem::new(format!("`{}`, character {}, is no hexadecimal digit", c.escape_debug(), at + 1))
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// Text whose lines all end with CR LF.
pub fn with_crlf(text: &str) -> String {
    let mut whole = String::with_capacity(text.len() + text.len() / 16);
    let mut last = ' ';
    for c in text.chars() {
        if c == '\n' && last != '\r' {
            whole.push('\r');
        }
        whole.push(c);
        last = c;
    }
    whole
}

/// The form in which payloads are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// Text where it is printable, else hex.
    #[default]
    Auto,
    /// Text always.
    Text,
    /// Hex always.
    Hex,
    /// The bytes themselves.
    Data,
    /// Nothing.
    None,
}

/// How somebody wants to see payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadView {
    /// The form.
    pub form: PayloadForm,
    /// The encoding that the bytes are taken for.
    pub encoding: TextEncoding,
    /// Show at most so many bytes.
    pub max_bytes: Option<u32>,
}

/// A payload as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown<'a> {
    /// As text in this encoding.
    Text(Cow<'a, str>),
    /// As hexadecimal digits.
    Hex(String),
    /// As bytes.
    Data(&'a [u8]),
    /// Not at all.
    Nothing,
}

impl PayloadView {
    /// The bytes in this view, and whether the view shows only the first of them.
    pub fn show<'a>(&self, bytes: &'a [u8]) -> (Shown<'a>, bool) {
        let limit = self.max_bytes.map_or(bytes.len(), |max| bytes.len().min(max as usize));
        let part = &bytes[..limit];
        let shown = match self.form {
            PayloadForm::Auto => match self.printable(part) {
                Some(text) => Shown::Text(text),
                None => Shown::Hex(to_hex(part)),
            },
            PayloadForm::Text => Shown::Text(self.encoding.decode(part).0),
            PayloadForm::Hex => Shown::Hex(to_hex(part)),
            PayloadForm::Data => Shown::Data(part),
            PayloadForm::None => Shown::Nothing,
        };
        (shown, limit < bytes.len())
    }

    /// The bytes as text, if that is what they look like.
    fn printable<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        let fits = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
        if !self.encoding.is_utf8() {
            let (text, malformed) = self.encoding.decode(bytes);
            return (!malformed && text.chars().all(fits)).then_some(text);
        }
        // Only looked at first: to decode bytes that are no text, and may be many, would cost much and bring nothing.
        let judged = without_cut_edges(bytes);
        let text = std::str::from_utf8(judged).ok().filter(|text| text.chars().all(fits))?;
        match judged.len() {
            0 if !bytes.is_empty() => None,
            whole if whole == bytes.len() => Some(Cow::Borrowed(text)),
            _ => Some(self.encoding.decode(bytes).0),
        }
    }
}

/// UTF-8 without the part of a character that was cut off at its start, and that of one at its end: a read may end anywhere.
fn without_cut_edges(bytes: &[u8]) -> &[u8] {
    let continuation = |byte: &u8| byte & 0xc0 == 0x80;
    let start = bytes.iter().take(3).take_while(|byte| continuation(byte)).count();
    let bytes = &bytes[start..];
    match std::str::from_utf8(bytes) {
        // `error_len` is absent just when the input ended within a character.
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn auto(bytes: &[u8]) -> Shown<'_> {
        PayloadView::default().show(bytes).0
    }

    fn text(text: &str) -> Shown<'_> {
        Shown::Text(text.into())
    }

    #[test]
    fn auto_shows_text_where_it_is_printable_and_hex_where_not() {
        assert_eq!(auto(b"hola que tal\r\n"), text("hola que tal\r\n"));
        assert_eq!(auto("대기상태".as_bytes()), text("대기상태"));
        assert_eq!(auto(b""), text(""));
        assert_eq!(auto(b"a\0b"), Shown::Hex("610062".into()));
        assert_eq!(auto(b"\x1b[31m"), Shown::Hex("1b5b33316d".into()));
        assert_eq!(auto(&[0xff, 0xfe]), Shown::Hex("fffe".into()));
        assert_eq!(auto(&[b'a', 0xe4, b'b']), Shown::Hex("61e462".into()));
    }

    #[test]
    fn a_character_cut_at_an_edge_does_not_flip_the_view() {
        let whole = "señal 你好".as_bytes();
        for cut in 0..=whole.len() {
            for part in [&whole[..cut], &whole[cut..]] {
                let only_a_piece = !part.is_empty() && without_cut_edges(part).is_empty();
                assert_eq!(matches!(auto(part), Shown::Text(_)), !only_a_piece, "{part:?}");
            }
        }
        assert_eq!(auto(&"ñ".as_bytes()[..1]), Shown::Hex("c3".into()));
        assert_eq!(auto(&[0xb1, b'a', 0xc3]), text("\u{fffd}a\u{fffd}"));
    }

    #[test]
    fn a_view_chooses_form_encoding_and_length() {
        let bytes = b"\xc4\xe3\xba\xc3";
        let gbk = TextEncoding::from_label("gbk").unwrap();
        let view = |form, encoding, max_bytes| PayloadView { form, encoding, max_bytes }.show(bytes);
        assert_eq!(view(PayloadForm::Text, gbk, None), (text("你好"), false));
        assert_eq!(view(PayloadForm::Auto, gbk, None), (text("你好"), false));
        assert_eq!(view(PayloadForm::Hex, gbk, Some(2)), (Shown::Hex("c4e3".into()), true));
        assert_eq!(view(PayloadForm::Data, gbk, Some(9)), (Shown::Data(bytes), false));
        assert_eq!(view(PayloadForm::None, gbk, None), (Shown::Nothing, false));
    }

    #[test]
    fn hex_is_read_as_people_write_it() {
        assert_eq!(parse_hex("48 65:6C-6c 6f").unwrap(), "Hello");
        assert_eq!(parse_hex("").unwrap(), "");
        for bad in ["4", "4 8", "zz", "48 6", "0x48", "é", "48,65"] {
            assert!(parse_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_the_same_everywhere() {
        let bytes = |size, fill| Pattern { size, start: 0, fill }.bytes().unwrap();
        assert_eq!(bytes(4, Fill::Counting)[..], [0, 1, 2, 3]);
        assert_eq!(bytes(258, Fill::Counting)[255..], [255, 0, 1]);
        assert_eq!(bytes(5, Fill::Repeat("ab".into())), "ababa");
        // The first two outputs of SplitMix64 from seed 0: e220a8397b1dcdaf, 6e789e6aa1b965f4.
        assert_eq!(to_hex(&bytes(12, Fill::Random(0))), "afcd1d7b39a820e2f465b9a1");
        assert!(Pattern { size: 0, start: 0, fill: Fill::Counting }.bytes().is_err());
        assert!(Pattern { size: 1, start: 0, fill: Fill::Repeat(String::new()) }.bytes().is_err());
    }

    fn fill() -> impl Strategy<Value = Fill> {
        prop_oneof![Just(Fill::Counting), "[a-zñ]{1,9}".prop_map(Fill::Repeat), any::<u64>().prop_map(Fill::Random)]
    }

    proptest! {
        #[test]
        fn a_pattern_can_begin_anywhere(fill in fill(), start in 0..700_u32, size in 1..700_u32) {
            let whole = Pattern { size: start + size, start: 0, fill: fill.clone() }.bytes().unwrap();
            let part = Pattern { size, start: start.into(), fill }.bytes().unwrap();
            prop_assert_eq!(part, whole.slice(start as usize..));
        }

        #[test]
        fn hex_comes_back(bytes: Vec<u8>) {
            prop_assert_eq!(parse_hex(&to_hex(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn printable_text_is_shown_as_it_is(part in "\\PC{0,40}") {
            prop_assert_eq!(auto(part.as_bytes()), text(&part));
        }

        #[test]
        fn every_view_of_everything_works(bytes: Vec<u8>, max in 0u32..20) {
            for form in [PayloadForm::Auto, PayloadForm::Text, PayloadForm::Hex, PayloadForm::Data, PayloadForm::None] {
                let (_, cut) = PayloadView { form, max_bytes: Some(max), ..Default::default() }.show(&bytes);
                prop_assert_eq!(cut, bytes.len() > max as usize);
            }
        }
    }
}
