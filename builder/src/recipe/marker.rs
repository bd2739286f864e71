//! The condition of a requirement, which PEP 508 calls its marker.

use std::fmt;

use super::grammar::Advice;
use super::read::nearest;
use super::version_clause;

/// What a condition can ask for; the last six in the way of older files.
const NAMES: [&str; 20] = [
    "python_version",
    "python_full_version",
    "os_name",
    "sys_platform",
    "platform_release",
    "platform_system",
    "platform_version",
    "platform_machine",
    "platform_python_implementation",
    "implementation_name",
    "implementation_version",
    "extra",
    "extras",
    "dependency_groups",
    "os.name",
    "sys.platform",
    "platform.version",
    "platform.machine",
    "platform.python_implementation",
    "python_implementation",
];

const OPERATORS: [&str; 8] = ["<", "<=", "==", "!=", ">=", ">", "~=", "==="];

const EXAMPLE: &str = "a comparison looks like python_version >= '3.9'";

/// A piece of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'m> {
    Word(&'m str),
    /// What stands in quotes.
    Text(&'m str),
    /// Characters of operators, or others that mean nothing here.
    Sign(&'m str),
    Open,
    Close,
}

/// Whether a condition can ask for this.
pub(super) fn is_name(word: &str) -> bool {
    NAMES.contains(&word)
}

/// Says whether a condition is one, else what is wrong and what to write.
pub(super) fn check(marker: &str) -> Result<(), Advice> {
    let tokens = tokens(marker)?;
    let mut rest = tokens.as_slice();
    let mut depth = 0_usize;
    // Not by recursion: a file may hold any number of parentheses.
    loop {
        while let [Token::Open, more @ ..] = rest {
            depth += 1;
            rest = more;
        }
        rest = check_comparison(rest)?;
        while let [Token::Close, more @ ..] = rest {
            depth = depth
                .checked_sub(1)
                .ok_or_else(|| Advice::new("a `)` in the condition closes nothing", ""))?;
            rest = more;
        }
        rest = match rest {
            [] if depth == 0 => return Ok(()),
            [] => {
                return Err(Advice::new(
                    "a `(` in the condition is not closed",
                    "write `)` where it ends",
                ));
            }
            [Token::Word("and" | "or"), more @ ..] => more,
            [token, ..] => return Err(no_junction(*token)),
        };
    }
}

/// The pieces of a condition.
fn tokens(marker: &str) -> Result<Vec<Token<'_>>, Advice> {
    let mut tokens = Vec::new();
    let mut rest = marker.trim();
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        let token = match first {
            '(' => Token::Open,
            ')' => Token::Close,
            '"' | '\'' => {
                let Some(end) = after.find(first) else {
                    return Err(Advice::new(
                        format!("a quote in the condition is not closed: {rest}"),
                        format!("write the same quote at its end: {rest}{first}"),
                    ));
                };
                Token::Text(&after[..end])
            }
            _ if is_of_word(first) => Token::Word(until(rest, |c| !is_of_word(c))),
            _ => Token::Sign(until(rest, |c| {
                is_of_word(c) || c.is_whitespace() || "()'\"".contains(c)
            })),
        };
        let length = match token {
            Token::Open | Token::Close => 1,
            Token::Text(text) => text.len() + 2,
            Token::Word(text) | Token::Sign(text) => text.len(),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Also what no name has, so that a text without quotes is seen as a whole.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_.-*+".contains(c)
}

fn until(text: &str, ends: impl Fn(char) -> bool) -> &str {
    &text[..text.find(ends).unwrap_or(text.len())]
}

/// Looks at one comparison; what follows it.
fn check_comparison<'t, 'm>(tokens: &'t [Token<'m>]) -> Result<&'t [Token<'m>], Advice> {
    let [left, rest @ ..] = tokens else {
        return Err(Advice::new("a comparison is missing in the condition", ""));
    };
    match left {
        Token::Text(_) => {}
        Token::Word(word) if is_name(word) => {}
        Token::Word(word) => return Err(no_name(word, rest)),
        Token::Sign(_) | Token::Open | Token::Close => {
            return Err(Advice::new(
                format!("a comparison in the condition begins with {left}"),
                EXAMPLE,
            ));
        }
    }
    let (operator, rest) = match rest {
        [Token::Word("in"), rest @ ..] => ("in", rest),
        [Token::Word("not"), Token::Word("in"), rest @ ..] => ("not in", rest),
        [Token::Sign(sign), rest @ ..] if OPERATORS.contains(sign) => (*sign, rest),
        [Token::Sign(sign), ..] => return Err(no_operator(sign)),
        _ => {
            return Err(Advice::new(
                format!("{left} in the condition is compared with nothing"),
                EXAMPLE,
            ));
        }
    };
    let [right @ (Token::Word(_) | Token::Text(_)), rest @ ..] = rest else {
        return Err(Advice::new(
            format!("{left} {operator} in the condition is compared with nothing"),
            EXAMPLE,
        ));
    };
    match (left, right) {
        (Token::Text(_), Token::Word(word)) if is_name(word) => Ok(rest),
        (Token::Text(_), Token::Word(word)) => Err(no_name(word, &[])),
        (Token::Text(_), _) => Err(Advice::new(
            format!("the condition compares two texts, {left} and {right}"),
            EXAMPLE,
        )),
        (_, Token::Text(text)) if operator == "~=" && !version_clause::is_compatible(text) => {
            Err(Advice::new(
                format!("`~=` needs a version of two numbers at least, other than {right}"),
                "",
            ))
        }
        (_, Token::Word(word)) => Err(Advice::new(
            format!("{right} in the condition has no quotes"),
            format!("write '{word}'"),
        )),
        _ => Ok(rest),
    }
}

/// What to write instead of a word that is no name.
fn no_name(word: &str, rest: &[Token<'_>]) -> Advice {
    if word == "not" {
        return Advice::new("`not` in the condition does not stand before `in`", "");
    }
    // A version or the like, written the other way round.
    if let [Token::Sign(_), Token::Word(name), ..] = rest
        && is_name(name)
    {
        return Advice::new(
            format!("`{word}` in the condition has no quotes"),
            format!("write '{word}'"),
        );
    }
    let known: Vec<String> = NAMES.iter().map(|name| name.replace('_', "-")).collect();
    let meant = match word.to_ascii_lowercase().as_str() {
        "platform" | "os" => Some("sys_platform".to_owned()),
        "python" | "py_version" => Some("python_version".to_owned()),
        "arch" | "machine" => Some("platform_machine".to_owned()),
        word => nearest(word, known.iter().map(String::as_str)).map(|name| name.replace('-', "_")),
    };
    Advice::new(
        format!("a condition knows no `{word}`"),
        match meant {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the names are {}", NAMES[..14].join(", ")),
        },
    )
}

fn no_operator(sign: &str) -> Advice {
    let instead = match sign {
        "=" => "==",
        "=>" => ">=",
        "=<" => "<=",
        "<>" | "!" | "=!" => "!=",
        _ => "",
    };
    Advice::new(
        format!("`{sign}` compares nothing in a condition"),
        if instead.is_empty() {
            format!("the operators are {}, in and not in", OPERATORS.join(", "))
        } else {
            format!("write `{instead}`")
        },
    )
}

fn no_junction(token: Token<'_>) -> Advice {
    let instead = match token {
        Token::Sign("&" | "&&" | ",") => "`and`",
        Token::Sign("|" | "||") => "`or`",
        Token::Word(word) if word.eq_ignore_ascii_case("and") => "`and`",
        Token::Word(word) if word.eq_ignore_ascii_case("or") => "`or`",
        _ => "`and` or `or` between two comparisons",
    };
    Advice::new(
        format!("{token} joins nothing in a condition"),
        format!("write {instead}"),
    )
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Text(text) => write!(f, "'{text}'"),
            Token::Word(text) | Token::Sign(text) => write!(f, "`{text}`"),
            Token::Open => f.write_str("`(`"),
            Token::Close => f.write_str("`)`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_takes_is_taken() {
        for marker in [
            "python_version < '3.8'",
            " python_version<\"3.8\" ",
            "'3.8' > python_version",
            "python_version=='2.7'and os_name=='posix'",
            "(python_version >= '3' and (sys_platform == 'linux')) or extra == 'x'",
            "((os_name == 'nt'))",
            "platform_machine in 'x86_64 aarch64'",
            "'linux' in sys_platform",
            "platform_python_implementation not  in \"PyPy Jython\"",
            "os.name == 'posix' or sys.platform != 'win32' or platform.version > '1'",
            "platform.machine == 'x' and platform.python_implementation == 'CPython'",
            "python_implementation == 'CPython'",
            "python_full_version ~= '3.8.1'",
            "python_version === '3.8'",
            "python_version >= '3.*'",
            "platform_release >= '5' and platform_system == 'Linux'",
            "implementation_name == 'cpython' and implementation_version > '3'",
            "'test' in extras or 'dev' in dependency_groups",
            "sys_platform == \"it's\"",
            "sys_platform == ''",
        ] {
            check(marker).unwrap_or_else(|advice| panic!("{marker}: {advice:?}"));
        }
        let deep = 100_000;
        let marker = format!("{}os_name == 'x'{}", "(".repeat(deep), ")".repeat(deep));
        assert_eq!(check(&marker), Ok(()));
    }

    #[test]
    fn what_no_pip_takes_is_answered_with_what_to_write() {
        for (marker, said) in [
            ("python_version < 3.8", "write '3.8'"),
            ("3.8 > python_version", "write '3.8'"),
            ("sys_platform == linux", "write 'linux'"),
            ("platform = \"linux\"", "`sys_platform`"),
            ("sys_platform = \"linux\"", "`==`"),
            ("python_version => '3'", "`>=`"),
            ("python_version =< '3'", "`<=`"),
            ("python_version ! '3'", "`!=`"),
            ("python_version >>> '3'", "operators are"),
            ("python_version", "compared with nothing"),
            ("python_version '3'", "compared with nothing"),
            ("python_version >=", "`python_version` >= in"),
            ("python_version >= ('3')", "with nothing"),
            ("python_version < '3.8", "at its end: '3.8'"),
            ("python_version < \"3.8'", "not closed"),
            ("(python_version < '3.8'", "write `)`"),
            ("python_version < '3.8')", "closes nothing"),
            ("()", "begins with `)`"),
            ("os_name == 'x' && extra == 'y'", "write `and`"),
            ("os_name == 'x' || extra == 'y'", "write `or`"),
            ("os_name == 'x' AND extra == 'y'", "write `and`"),
            ("os_name == 'x', extra == 'y'", "write `and`"),
            ("os_name == 'x' extra == 'y'", "`and` or `or`"),
            ("os_name == 'x' and", "is missing"),
            ("not os_name == 'x'", "not stand before `in`"),
            ("os_name not 'x'", "compared with nothing"),
            ("'a' == 'b'", "two texts"),
            ("python-version < '3'", "`python_version`"),
            ("Python_Version < '3'", "`python_version`"),
            ("python < '3'", "`python_version`"),
            ("sys_plattform == 'linux'", "`sys_platform`"),
            ("'x' == foo", "the names are"),
            ("python_version ~= '3'", "two numbers"),
            ("python_version == os_name", "write 'os_name'"),
        ] {
            match check(marker) {
                Ok(()) => panic!("{marker} was taken"),
                Err(Advice { why, hint }) => {
                    assert!(
                        format!("{why}: {hint}").contains(said),
                        "{marker}: {why}: {hint}"
                    );
                }
            }
        }
    }
}
