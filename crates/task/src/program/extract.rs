//! The program in a reply.
//!
//! Rules, in this order:
//! 1. Fenced blocks (three or more backticks or tildes, at most three spaces in front; a block that is never closed goes
//!    to the end). The last one that defines the function counts; when none does, the last one.
//! 2. Without a block, the whole reply, less a last line that begins with `Answer:` and less a leading `Answer:`.
//! 3. A text that does not define the function is the continuation of the prompt when its first line of code is
//!    indented; otherwise it stands for itself.
//!
//! Nothing is repaired: what is no Python is a compile error.

/// The code of a reply, or `None` when there is nothing but white space.
pub fn code_of(reply: &str, entry: &str) -> Option<String> {
    let blocks = fenced(reply);
    let code = match blocks.iter().rev().find(|block| defines(block, entry)).or(blocks.last()) {
        Some(block) => block.clone(),
        None => unmarked(reply).to_string(),
    };
    (!code.trim().is_empty()).then_some(code)
}

/// The whole program: code that defines the function has the imports and helpers of the prompt in front, a
/// continuation has the whole prompt.
pub fn complete(code: &str, entry: &str, prompt: &str, setup: &str) -> String {
    let first = code.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let indented = first.is_some_and(|line| line.starts_with([' ', '\t']));
    match !defines(code, entry) && indented {
        true if prompt.ends_with('\n') => format!("{prompt}{code}"),
        true => format!("{prompt}\n{code}"),
        false if setup.trim().is_empty() => code.to_string(),
        false => format!("{}\n{code}", setup.trim_end()),
    }
}

/// Whether a line begins with `def ENTRY(` or binds the name.
pub fn defines(code: &str, entry: &str) -> bool {
    code.lines().any(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("def ").map(str::trim_start);
        if let Some(rest) = name.and_then(|rest| rest.strip_prefix(entry)) {
            return rest.trim_start().starts_with(['(', '[']);
        }
        line.strip_prefix(entry)
            .is_some_and(|rest| rest.trim_start().starts_with('=') && !rest.trim_start().starts_with("=="))
    })
}

fn unmarked(reply: &str) -> &str {
    let trimmed = reply.trim_end();
    let last = trimmed.rfind('\n').map_or(0, |place| place + 1);
    let text = match trimmed[last..].trim_start().starts_with("Answer:") && last > 0 {
        true => &trimmed[..last],
        false => reply,
    };
    text.trim_start().strip_prefix("Answer:").map_or(text, str::trim_start)
}

/// The marks that open or close a block in this line: which sign, how many, and what stands behind them.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let inner = line.trim_start_matches(' ');
    if line.len() - inner.len() > 3 {
        return None;
    }
    let sign = inner.chars().next().filter(|sign| matches!(sign, '`' | '~'))?;
    let count = inner.chars().take_while(|other| *other == sign).count();
    let behind = inner[count..].trim();
    // Inline code such as ```x``` is no fence.
    (count >= 3 && !(sign == '`' && behind.contains('`'))).then_some((sign, count, behind))
}

/// The contents of all fenced blocks, in order.
fn fenced(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open: Option<(char, usize)> = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        match (open, fence(bare)) {
            (None, Some((sign, count, _))) => {
                open = Some((sign, count));
                blocks.push(String::new());
            }
            (Some((sign, least)), Some((other, count, behind)))
                if sign == other && count >= least && behind.is_empty() =>
            {
                open = None;
            }
            (Some(_), _) => {
                if let Some(block) = blocks.last_mut() {
                    block.push_str(line);
                }
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_block_that_defines_the_function_counts() {
        let reply = "First:\n```python\ndef f(x):\n    return 1\n```\nBetter:\n```py\ndef f(x):\n    return 2\n```\nUse:\n\
                     ```\nf(3)\n```\nAnswer: f";
        assert_eq!(code_of(reply, "f").unwrap(), "def f(x):\n    return 2\n");
        assert_eq!(code_of(reply, "g").unwrap(), "f(3)\n");
        assert_eq!(code_of("```\ndef f(x): return 1", "f").unwrap(), "def f(x): return 1");
        assert_eq!(code_of("~~~~\na\n~~~\n```\n~~~~~\nrest", "f").unwrap(), "a\n~~~\n```\n");
        assert_eq!(code_of("def f(x):\n    return 1\nAnswer: f", "f").unwrap(), "def f(x):\n    return 1\n");
        assert_eq!(code_of("Answer: f = lambda x: 1", "f").unwrap(), "f = lambda x: 1");
        assert_eq!(code_of("Answer: 3\n", "f").unwrap(), "3\n");
        for empty in ["", " \n", "```\n```", "text\n```python\n\n```"] {
            assert_eq!(code_of(empty, "f"), None, "{empty:?}");
        }
        // A fence inside of a text of the program is the program's.
        let inner = "````\ndef f(x):\n    return '''\n```\n'''\n````";
        assert_eq!(code_of(inner, "f").unwrap(), "def f(x):\n    return '''\n```\n'''\n");
    }

    #[test]
    fn continuations_get_the_prompt_and_functions_the_imports() {
        let (prompt, setup) = ("import math\ndef f(x):\n    \"\"\"Says.\"\"\"\n", "import math\n");
        assert_eq!(complete("    return 1\n", "f", prompt, setup), format!("{prompt}    return 1\n"));
        assert_eq!(complete("def f(x): return 1", "f", prompt, setup), "import math\ndef f(x): return 1");
        assert_eq!(complete("f(3)", "f", prompt, setup), "import math\nf(3)");
        assert_eq!(complete("x", "f", "", ""), "x");
        assert!(
            defines("async def f (x): pass", "f")
                && defines("f = 3", "f")
                && defines("def f[T](x): pass", "f")
        );
        assert!(
            !defines("def ff(x): pass", "f")
                && !defines("    def f(x): pass", "f")
                && !defines("f == 3", "f")
        );
    }

    proptest! {
        /// Whatever stands around it, a last closed block with the function is found as it was written.
        #[test]
        fn a_written_block_comes_back(
            before in "[a-z \n.]{0,60}",
            body in "[ -_a-}\n]{0,80}",
            after in "[a-z .]{0,40}",
            marks in 3usize..6,
        ) {
            let code = format!("def f(x):\n{body}\n");
            let fence = "`".repeat(marks);
            let reply = format!("{before}\n{fence}python\n{code}{fence}\n{after}");
            prop_assert_eq!(code_of(&reply, "f"), Some(code));
        }

        /// No reply makes the extraction fail, and what it finds stands in the reply.
        #[test]
        fn any_reply_is_read(reply in "\\PC{0,40}(\n|`{0,5}|~{0,4}|def f\\(|Answer:| ){0,20}\\PC{0,40}") {
            if let Some(code) = code_of(&reply, "f") {
                prop_assert!(code.lines().all(|line| reply.contains(line)));
            }
        }
    }
}
