//! Numbers that something is compared with: one, or a range of them.

use std::fmt;

/// A number, or a range: `5`, `> 5`, `>= 5`, `< 5`, `<= 5`, `5..9` with both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    least: u64,
    most: u64,
}

impl Amount {
    /// Just this number.
    pub const fn exactly(number: u64) -> Self {
        Self { least: number, most: number }
    }

    /// Reads what a file says. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |text: &str| {
            text.trim()
                .parse::<u64>()
                .map_err(|_| format!("`{}` is no number such as 5, > 5, <= 5 or 5..9", text.trim()))
        };
        if let Some(rest) = text.strip_prefix(">=") {
            return number(rest).map(|least| Self { least, most: u64::MAX });
        }
        if let Some(rest) = text.strip_prefix("<=") {
            return number(rest).map(|most| Self { least: 0, most });
        }
        if let Some(rest) = text.strip_prefix('>') {
            let least = number(rest)?.checked_add(1).ok_or_else(|| "nothing is larger than that".to_owned())?;
            return Ok(Self { least, most: u64::MAX });
        }
        if let Some(rest) = text.strip_prefix('<') {
            let most = number(rest)?.checked_sub(1).ok_or_else(|| "nothing is smaller than 0".to_owned())?;
            return Ok(Self { least: 0, most });
        }
        let Some((least, most)) = text.split_once("..") else { return number(text).map(Self::exactly) };
        let (least, most) = (number(least)?, number(most)?);
        if least > most {
            return Err(format!("`{text}` has its ends the wrong way round"));
        }
        Ok(Self { least, most })
    }

    /// Whether a number is one of them.
    pub const fn holds(self, number: u64) -> bool {
        self.least <= number && number <= self.most
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (least, most) if least == most => write!(f, "{least}"),
            (0, most) => write!(f, "at most {most}"),
            (least, u64::MAX) => write!(f, "at least {least}"),
            (least, most) => write!(f, "{least} to {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str) -> String {
        Amount::parse(text).map_or_else(|problem| format!("! {problem}"), |amount| amount.to_string())
    }

    #[test]
    fn amounts_are_numbers_and_ranges() {
        for (text, shown) in [
            ("5", "5"),
            ("> 5", "at least 6"),
            (">=5", "at least 5"),
            ("<5", "at most 4"),
            ("<= 5", "at most 5"),
            ("5..9", "5 to 9"),
            ("5 .. 5", "5"),
            ("9..5", "! `9..5` has its ends the wrong way round"),
            ("<0", "! nothing is smaller than 0"),
            ("> 18446744073709551615", "! nothing is larger than that"),
            ("five", "! `five` is no number such as 5, > 5, <= 5 or 5..9"),
            ("", "! `` is no number such as 5, > 5, <= 5 or 5..9"),
        ] {
            assert_eq!(amount(text), shown, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_what_lies_between_its_ends(least: u64, length in 0_u64..9, number: u64) {
            let most = least.saturating_add(length);
            let amount = Amount::parse(&format!("{least}..{most}")).unwrap();
            prop_assert_eq!(amount.holds(number), (least..=most).contains(&number));
            prop_assert!(amount.holds(least) && amount.holds(most));
        }
    }
}
