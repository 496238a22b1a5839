//! Addresses of servers. They may hold a user and a password (`http://ann:secret@host/v1`), which go to the server and nowhere
//! else: no file, log, trace or message has them.

use reqwest::Url;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// What is written in the place of user and password.
const HIDDEN: &str = "***";

/// The address of a server. Shown, debugged and written, it has `***` in the place of user and password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The whole address, for who asks the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it names a user.
    pub fn has_user(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| names_user(&url))
    }

    /// Whether it was read from where user and password are not written: nobody can be asked there.
    pub fn is_hidden(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.username() == HIDDEN && url.password().is_none())
    }

    fn shown(&self) -> Cow<'_, str> {
        match Url::parse(&self.0) {
            Ok(url) if url.has_host() && !names_user(&url) => Cow::Borrowed(&self.0),
            Ok(mut url) if url.has_host() => {
                // Both can be set where there is a host.
                let _ = (url.set_username(HIDDEN), url.set_password(None));
                Cow::Owned(url.into())
            }
            // What is no address may be one with a mistake in it.
            _ => match self.0.rsplit_once('@') {
                Some((before, behind)) => {
                    let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
                    Cow::Owned(format!("{scheme}{HIDDEN}@{behind}"))
                }
                None => Cow::Borrowed(&self.0),
            },
        }
    }
}

fn names_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// A text with `***` in the place of user and password of every address in it, for messages that repeat what was typed.
pub fn hide_users(text: &str) -> String {
    const BEGINS: &str = "://";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGINS) {
        let (before, behind) = rest.split_at(at + BEGINS.len());
        shown.push_str(before);
        let ends = |sign: char| sign.is_whitespace() || matches!(sign, '`' | '"' | '\'');
        let word = behind.split(ends).next().unwrap_or_default();
        rest = match word.rfind('@') {
            Some(user) => {
                shown.push_str(HIDDEN);
                &behind[user..]
            }
            None => behind,
        };
    }
    shown + rest
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), formatter)
    }
}

impl From<&str> for Address {
    fn from(address: &str) -> Self {
        Address(address.into())
    }
}

impl From<String> for Address {
    fn from(address: String) -> Self {
        Address(address)
    }
}

impl From<&String> for Address {
    fn from(address: &String) -> Self {
        Address(address.clone())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Address)
    }
}

impl JsonSchema for Address {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_never_shown_nor_written() {
        for (address, shown) in [
            ("http://ann:secret@host:8000/v1", "http://***@host:8000/v1"),
            ("https://secret@host/v1", "https://***@host/v1"),
            ("http://:secret@host/v1", "http://***@host/v1"),
            ("http://ann:se%40cret@[::1]:8000/v1?a=b", "http://***@[::1]:8000/v1?a=b"),
            ("ftp://ann:secret@host", "ftp://***@host/"),
            // Mistakes: no scheme, a slash in the password, no host.
            ("ann:secret@host/v1", "***@host/v1"),
            ("http://ann:sec/ret@secret@host/v1", "http://***@host/v1"),
            ("http:ann:secret@host", "http://***@host/"),
            ("http://ann:secret@", "http://***@"),
        ] {
            let address = Address::from(address);
            let written = serde_json::to_value(&address).unwrap();
            assert_eq!((address.to_string().as_str(), written.as_str()), (shown, Some(shown)));
            assert_eq!(format!("{address:?}"), format!("{shown:?}"));
            assert!(!address.is_hidden());
        }
    }

    #[test]
    fn an_address_without_a_user_stays_as_it_is() {
        for address in ["http://host", "http://HOST:80/v1@2", "https://host/v1/", "nowhere", ""] {
            let read: Address = serde_json::from_value(address.into()).unwrap();
            assert_eq!((read.to_string().as_str(), read.reveal()), (address, address));
            assert!(!read.has_user() && !read.is_hidden());
        }
    }

    #[test]
    fn what_was_written_is_known_as_such_when_it_is_read_again() {
        let address = Address::from("http://ann:secret@host/v1");
        assert!(address.has_user() && address.reveal().contains("ann:secret"));
        let again: Address = serde_json::from_value(serde_json::to_value(&address).unwrap()).unwrap();
        assert!(again.is_hidden());
        assert_ne!(again, address);
    }

    #[test]
    fn messages_repeat_addresses_without_their_users() {
        let text = "`critic=m@http://ann:secret@x/v1` and \"https://b@y\", http://z/v1 at a@b";
        let shown = "`critic=m@http://***@x/v1` and \"https://***@y\", http://z/v1 at a@b";
        assert_eq!(hide_users(text), shown);
        assert_eq!(hide_users("http://a:x@h http://b:y@h"), "http://***@h http://***@h");
    }
}
