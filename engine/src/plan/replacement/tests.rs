use super::*;
use proptest::prelude::*;

fn replaced(pattern: &str, replacement: &str, text: &str) -> String {
    let of = Replacement::new(pattern.as_bytes(), replacement.as_bytes()).unwrap();
    let mut out = Vec::new();
    of.apply(text.as_bytes(), &mut Vec::new(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn hosts_of_addresses() {
    let host = |text| replaced(r"^https?://(?:www\.)?([^/]+)/.*$", r"\1", text);
    assert_eq!(host("http://example.com/page"), "example.com");
    assert_eq!(host("https://www.пример.рф/a/b\nc"), "пример.рф");
    assert_eq!(host("http://www./x"), "www.");
    assert_eq!(host("http://example.com"), "http://example.com");
    assert_eq!(host(""), "");
    assert_eq!(replaced("^(a*)(a*)b?$", r"<\1,\2,\&,\\>", "aaa"), r"<aaa,,aaa,\>");
    // What is before a group is as long as it can be, whichever of its parts that is due to.
    assert_eq!(replaced("^a?(?:ab)?(b*)$", r"[\1]", "ab"), "[]");
    // The positions from which it can be done are found once, not anew from each of them.
    assert_eq!(replaced("^(a*)(?:a*b)?c$", r"\1", &format!("{}c", "a".repeat(100_000))).len(), 100_000);
    let long = "a".repeat(100_000);
    assert_eq!(replaced("^(?:a*)([ab]*)a*c$", r"\1", &long), long);
}

#[test]
fn others_are_left_to_the_host() {
    for pattern in [
        "a",
        "^a",
        "a$",
        "^a|b$",
        "^(a)*$",
        "^((a))$",
        "^a{2}$",
        "^a*?$",
        r"^\d$",
        r"^(a)\1$",
        "^[[:alpha:]]$",
        "^[z-a]$",
        "^é$",
        "^*$",
        "^(?=a)$",
        "^a$b$",
        "^[]a]$",
    ] {
        assert_eq!(Replacement::new(pattern.as_bytes(), b""), None, "{pattern}");
    }
    for replacement in [r"\2", r"\", r"\x"] {
        assert_eq!(Replacement::new(b"^(a)$", replacement.as_bytes()), None, "{replacement}");
    }
    assert_eq!(Replacement::new(format!("^{}a$", "(?:".repeat(5000)).as_bytes(), b""), None);
    assert_eq!(Replacement::new(format!("^{}$", "a".repeat(65)).as_bytes(), b""), None);
}

#[derive(Clone, Debug)]
enum Tree {
    Set(&'static str),
    Repeated(Box<Tree>, char),
    Sequence(Vec<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            Tree::Set(set) => (*set).into(),
            Tree::Repeated(of, how) => format!("{}{how}", of.text()),
            Tree::Sequence(parts) => format!("(?:{})", parts.iter().map(Tree::text).collect::<String>()),
        }
    }

    /// Where matches that begin at `at` end.
    fn ends(&self, text: &[char], at: usize) -> Vec<usize> {
        let mut ends = match self {
            Tree::Set(set) => match text.get(at) {
                Some(c) if fits(set, *c) => vec![at + 1],
                _ => vec![],
            },
            Tree::Repeated(of, how) => {
                let mut ends = if *how == '+' { of.ends(text, at) } else { vec![at] };
                let mut from = 0;
                while from < ends.len() && (*how != '?' || from == 0) {
                    let more = of.ends(text, ends[from]).into_iter().filter(|e| !ends.contains(e)).collect::<Vec<_>>();
                    ends.extend(more);
                    from += 1;
                }
                ends
            }
            Tree::Sequence(parts) => ends_of(parts, text, at),
        };
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

fn ends_of(parts: &[Tree], text: &[char], at: usize) -> Vec<usize> {
    parts.iter().fold(vec![at], |ends, part| ends.into_iter().flat_map(|at| part.ends(text, at)).collect())
}

fn fits(set: &str, c: char) -> bool {
    match set {
        "." => true,
        "[^/]" => c != '/',
        "[ab]" => "ab".contains(c),
        "[a-c/]" => "abc/".contains(c),
        r"\." => c == '.',
        literal => literal.chars().eq([c]),
    }
}

/// The ends of the groups, by PostgreSQL's rule: each part as long as what follows allows. `parts` take turns: the odd ones are groups.
fn divided(parts: &[Vec<Tree>], text: &[char], at: usize) -> Option<Vec<usize>> {
    let Some((first, rest)) = parts.split_first() else { return (at == text.len()).then(Vec::new) };
    let mut ends = ends_of(first, text, at);
    ends.sort_unstable();
    ends.into_iter().rev().find_map(|end| {
        let mut all = divided(rest, text, end)?;
        all.insert(0, end);
        Some(all)
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    let set = prop::sample::select(vec!["a", "b", "/", ".", "[^/]", "[ab]", "[a-c/]", r"\."]).prop_map(Tree::Set);
    let how = || prop::sample::select(vec!['*', '+', '?']);
    let atom = prop_oneof![2 => set.clone(), 1 => (set, how()).prop_map(|(of, how)| Tree::Repeated(Box::new(of), how))];
    atom.prop_recursive(2, 8, 3, move |inner| {
        let sequence = prop::collection::vec(inner, 1..4).prop_map(Tree::Sequence);
        prop_oneof![sequence.clone(), (sequence, how()).prop_map(|(of, how)| Tree::Repeated(Box::new(of), how)),]
    })
}

proptest! {
    #[test]
    fn groups_are_as_long_as_they_can_be(
        parts in prop::collection::vec(prop::collection::vec(tree(), 0..4), 1..5),
        texts in prop::collection::vec("[abcé/.]{0,12}", 1..20),
    ) {
        // The last one is no group.
        let parts = if parts.len() % 2 == 0 { &parts[1..] } else { &parts };
        let pattern: String = parts.iter().enumerate().map(|(nth, of)| {
            let text: String = of.iter().map(Tree::text).collect();
            if nth % 2 == 1 { format!("({text})") } else { text }
        }).collect();
        let groups = parts.len() / 2;
        let replacement: String = (1..=groups).map(|n| format!("<\\{n}>")).chain(["!".to_string()]).collect();
        let pattern = format!("^{pattern}$");
        let Some(of) = Replacement::new(pattern.as_bytes(), replacement.as_bytes()) else {
            prop_assert!(pattern.len() > 40, "{} is known", pattern);
            return Ok(());
        };
        for text in &texts {
            let chars: Vec<char> = text.chars().collect();
            let want = match divided(parts, &chars, 0) {
                None => text.clone(),
                Some(ends) => (0..groups).map(|n| {
                    format!("<{}>", chars[ends[2 * n]..ends[2 * n + 1]].iter().collect::<String>())
                }).chain(["!".to_string()]).collect(),
            };
            let mut out = Vec::new();
            of.apply(text.as_bytes(), &mut Vec::new(), &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), want, "{} of {:?}", pattern, text);
        }
    }
}
