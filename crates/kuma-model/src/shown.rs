//! Characters that have no shape of their own, and change how the text around them looks.

/// Whether a character steers how a text is shown: a control character, or one of Unicode's format characters (Cf),
/// such as those that turn the direction of writing round. Text of strangers is not shown with them as they are.
pub fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::steers;

    #[test]
    fn what_is_seen_steers_nothing() {
        assert!("aé中 ½-_.:/\"'🙂".chars().all(|letter| !steers(letter)));
        assert!("\u{1b}\u{7}\u{9b}\n\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{e0041}".chars().all(steers));
    }
}
