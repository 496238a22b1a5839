//! The chat templates of Hugging Face model folders: how a dialogue becomes the text that the model was tuned on.

use crate::GenerateError;
use elenchus_trace::{Message, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use serde_json::json;
use std::path::Path;

const NAME: &str = "chat_template";

/// A chat template with the special tokens that it names.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    begin: String,
    end: String,
    hash: String,
}

impl ChatTemplate {
    /// The template of a model folder: `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`; `None`
    /// when it has none. `model` is only named in errors.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no template.
    pub fn load(folder: &Path, model: &str) -> Result<Option<Self>, GenerateError> {
        let trouble = |path: &Path, what: String| GenerateError::Request {
            model: model.into(),
            what: format!("`{}`: {what}", path.display()),
            hint: "take the file from the model's own folder".into(),
        };
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(trouble(path, error.to_string())),
        };
        let path = folder.join("tokenizer_config.json");
        let settings: serde_json::Value = match read(&path)? {
            Some(text) => serde_json::from_str(&text).map_err(|error| trouble(&path, error.to_string()))?,
            None => serde_json::Value::Null,
        };
        let own = folder.join("chat_template.jinja");
        let source = match read(&own)? {
            Some(text) => Some(text),
            None => settings["chat_template"].as_str().map(str::to_string),
        };
        let Some(source) = source else { return Ok(None) };
        let token = |name: &str| {
            let entry = &settings[name];
            entry.as_str().or_else(|| entry["content"].as_str()).unwrap_or_default().to_string()
        };
        let template = Self::new(source, token("bos_token"), token("eos_token"));
        template.map(Some).map_err(|error| trouble(&path, format!("the chat template is broken: {error:#}")))
    }

    fn new(source: String, begin: String, end: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // The settings of `transformers`.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_unknown_method_callback(python_method);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let hash = blake3::hash(source.as_bytes()).to_hex().to_string();
        environment.add_template_owned(NAME, source)?;
        Ok(ChatTemplate { environment, begin, end, hash })
    }

    /// Tells templates apart: the same weights under another template are another model.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// The text of a dialogue, ready for the assistant's turn. When the assistant has begun, its turn stays open.
    /// `model` is only named in errors.
    ///
    /// # Errors
    /// A dialogue that the template refuses.
    pub fn render(&self, messages: &[Message], model: &str) -> Result<String, GenerateError> {
        let trouble = |error: &Error| GenerateError::Request {
            model: model.into(),
            what: format!("its chat template refuses the dialogue: {error:#}"),
            hint: "templates want alternating user and assistant messages and know few roles".into(),
        };
        let prefix = messages.last().filter(|message| message.role == Role::Assistant).map(Message::text);
        // Plain text for every content: that is what text models' templates expect.
        let plain: Vec<serde_json::Value> =
            messages.iter().map(|message| json!({"role": message.role, "content": message.text()})).collect();
        let context = json!({
            "messages": plain,
            "add_generation_prompt": prefix.is_none(),
            "bos_token": self.begin,
            "eos_token": self.end,
        });
        let template = self.environment.get_template(NAME).map_err(|error| trouble(&error))?;
        let mut text = template.render(Serde(context)).map_err(|error| trouble(&error))?;
        if let Some(prefix) = prefix {
            let prefix = prefix.trim_end();
            let end = text.rfind(prefix).map(|start| start + prefix.len());
            let Some(end) = end else {
                return Err(GenerateError::Request {
                    model: model.into(),
                    what: "its chat template changes the assistant's words, so they cannot be continued"
                        .into(),
                    hint: "ask without a beginning of the answer".into(),
                });
            };
            text.truncate(end);
        }
        Ok(text)
    }
}

/// The methods of Python strings and dictionaries that published templates use.
fn python_method(_: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let unknown = || Err(Error::from(ErrorKind::UnknownMethod));
    if value.kind() == ValueKind::Map {
        return match method {
            "get" => {
                let (key, default): (Value, Option<Value>) = from_args(arguments)?;
                let found = value.get_item(&key)?;
                Ok(if found.is_undefined() { default.unwrap_or_else(|| Value::from(())) } else { found })
            }
            "keys" => Ok(value.try_iter()?.collect()),
            "values" => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
            "items" => {
                let pair = |key: Value| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]));
                value.try_iter()?.map(pair).collect()
            }
            _ => unknown(),
        };
    }
    let Some(text) = value.as_str() else { return unknown() };
    let strip = |left: bool, right: bool| -> Result<Value, Error> {
        let (characters,): (Option<String>,) = from_args(arguments)?;
        let drop = |character: char| match &characters {
            Some(characters) => characters.contains(character),
            None => character.is_whitespace(),
        };
        let text = if left { text.trim_start_matches(drop) } else { text };
        Ok(Value::from(if right { text.trim_end_matches(drop) } else { text }))
    };
    match method {
        "strip" => strip(true, true),
        "lstrip" => strip(true, false),
        "rstrip" => strip(false, true),
        "upper" => Ok(Value::from(text.to_uppercase())),
        "lower" => Ok(Value::from(text.to_lowercase())),
        "startswith" => {
            let (start,): (String,) = from_args(arguments)?;
            Ok(Value::from(text.starts_with(&start)))
        }
        "endswith" => {
            let (end,): (String,) = from_args(arguments)?;
            Ok(Value::from(text.ends_with(&end)))
        }
        "replace" => {
            let (from, to): (String, String) = from_args(arguments)?;
            Ok(Value::from(text.replace(&from, &to)))
        }
        "split" => {
            let (separator,): (Option<String>,) = from_args(arguments)?;
            let parts: Vec<String> = match separator {
                Some(separator) => text.split(&separator).map(str::to_string).collect(),
                None => text.split_whitespace().map(str::to_string).collect(),
            };
            Ok(Value::from(parts))
        }
        _ => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT_ML: &str = "{% for message in messages %}\n\
        {{ '<|im_start|>' + message['role'] + '\\n' + message.content.strip() + '<|im_end|>' + '\\n' }}\n\
        {% endfor %}\n\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.into(), "<s>".into(), "</s>".into()).unwrap()
    }

    #[test]
    fn a_dialogue_becomes_the_text_of_its_template() {
        let messages = [Message::system("Be brief."), Message::user(" 2+2? ")];
        let text = template(CHAT_ML).render(&messages, "m").unwrap();
        assert_eq!(
            text.replace("\n\n", "\n"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn the_assistants_own_words_stay_open() {
        let messages = [Message::user("2+2?"), Message::assistant("It is ")];
        let text = template(CHAT_ML).render(&messages, "m").unwrap();
        assert!(text.ends_with("<|im_start|>assistant\nIt is"), "{text}");
    }

    #[test]
    fn methods_of_python_are_known_and_refusals_are_told() {
        let source = "{{ bos_token }}{% for m in messages %}{% if m.content.startswith('<t>') %}\
            {{ m.content.split('</t>')[-1].lstrip('\\n').upper() }}{% endif %}{{ m.get('name', '-') }}{% endfor %}";
        let text = template(source).render(&[Message::user("<t>hm</t>\nyes")], "m").unwrap();
        assert_eq!(text, "<s>YES-");
        let refusing = template("{{ raise_exception('no system role') }}");
        let error = refusing.render(&[Message::system("x")], "m").unwrap_err().to_string();
        assert!(error.contains("no system role"), "{error}");
    }

    #[test]
    fn folders_hold_templates_in_two_places() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ChatTemplate::load(folder.path(), "m").unwrap().is_none());
        let settings = json!({"chat_template": "{{ eos_token }}", "eos_token": {"content": "<e>"}});
        std::fs::write(folder.path().join("tokenizer_config.json"), settings.to_string()).unwrap();
        let render =
            || ChatTemplate::load(folder.path(), "m").unwrap().unwrap().render(&[Message::user("x")], "m");
        assert_eq!(render().unwrap(), "<e>");
        std::fs::write(folder.path().join("chat_template.jinja"), "own").unwrap();
        assert_eq!(render().unwrap(), "own");
    }
}
