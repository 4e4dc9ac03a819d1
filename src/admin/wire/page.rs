//! Lists, page by page.
//!
//! The cursor of a page is the sort key of the last item before it, not a number of items: an item that
//! comes or goes while a client reads on shifts no page. It goes to the client as base64 and comes back
//! unread.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;

/// Items on a page when the client does not say.
const DEFAULT_SIZE: usize = 100;
/// Items on a page at most.
const MAX_SIZE: usize = 1000;

/// What a client asks of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Items that the page has at most.
    pub(crate) size: usize,
    /// The sort key behind which the page begins; `None` is the first page.
    pub(crate) after: Option<String>,
    /// Which items are listed; `None` for all.
    pub(crate) tags: Option<Tags>,
    /// The arguments that the next page must have as well.
    kept: Vec<(&'static str, String)>,
}

/// A choice of items by their labels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// Those that have each of these.
    All(Vec<String>),
    /// Those that have one of these.
    Any(Vec<String>),
}

impl Tags {
    /// Says whether an entity is among those chosen.
    pub(crate) fn has(&self, entity: &Map<String, Value>) -> bool {
        let tags = entity.get("tags").and_then(Value::as_array);
        let has: HashSet<&str> = tags.into_iter().flatten().filter_map(Value::as_str).collect();
        match self {
            Self::All(wanted) => wanted.iter().all(|tag| has.contains(tag.as_str())),
            Self::Any(wanted) => wanted.iter().any(|tag| has.contains(tag.as_str())),
        }
    }

    /// Reads `a,b` (all) or `a/b` (any).
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::invalid_option("tags", "cannot be null"));
        }
        let all: Vec<String> = text.split(',').map(str::to_owned).collect();
        let any: Vec<String> = text.split('/').map(str::to_owned).collect();
        let is_mixed = all.len() > 1 && any.len() > 1;
        let has_nothing = all.iter().chain(&any).any(String::is_empty);
        // Bytes that are no UTF-8 have become replacement characters on the way here.
        let is_bad = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        if is_mixed || has_nothing || text.contains(is_bad) {
            return Err(Refusal::invalid_option("tags", "invalid filter syntax"));
        }
        Ok(if any.len() > 1 {
            Self::Any(any)
        } else {
            Self::All(all)
        })
    }
}

impl Page {
    /// Reads the arguments of a query; those that it does not know are left alone. Lists nested in an entity are
    /// not chosen from by tags, so `has_tags` is false for them.
    ///
    /// # Errors
    /// Kong's codes 7, 9 and 11.
    pub(crate) fn parse(query: Option<&str>, has_tags: bool) -> Result<Self, Refusal> {
        let mut page = Self {
            size: DEFAULT_SIZE,
            after: None,
            tags: None,
            kept: Vec::new(),
        };
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "size" => {
                    page.size = parse_size(&value)?;
                    page.keep("size", page.size.to_string())?;
                }
                "offset" => page.after = Some(parse_offset(&value)?),
                "tags" if has_tags => {
                    page.tags = Some(Tags::parse(&value)?);
                    page.keep("tags", value.into_owned())?;
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// Keeps an argument for the next page; given twice it says two things.
    fn keep(&mut self, key: &'static str, value: String) -> Result<(), Refusal> {
        if self.kept.iter().any(|(known, _)| *known == key) {
            return Err(match key {
                "size" => Refusal::invalid_size("size must be a number"),
                _ => Refusal::invalid_option(key, "invalid filter syntax"),
            });
        }
        self.kept.push((key, value));
        Ok(())
    }

    /// Makes the answer: the items of this page, and how the next one is asked for. `path` is that of the list, `last`
    /// the sort key of the last item when there are more behind it.
    pub(crate) fn render(&self, path: &str, items: Vec<Value>, last: Option<&str>) -> Value {
        let mut answer = json!({ "data": items, "next": null });
        if let Some(last) = last {
            let offset = URL_SAFE_NO_PAD.encode(last);
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("offset", &offset).extend_pairs(&self.kept);
            answer["next"] = format!("{path}?{}", query.finish()).into();
            answer["offset"] = offset.into();
        }
        answer
    }
}

fn parse_size(text: &str) -> Result<usize, Refusal> {
    let number: f64 = text
        .parse()
        .map_err(|_| Refusal::invalid_size("size must be a number"))?;
    let is_size = number.fract() == 0.0 && (1.0..=MAX_SIZE as f64).contains(&number);
    if !is_size {
        let message = format!("size must be an integer between 1 and {MAX_SIZE}");
        return Err(Refusal::invalid_size(message));
    }
    Ok(number as usize)
}

fn parse_offset(text: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    let cursor = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    cursor
        .filter(|cursor| !cursor.is_empty())
        .ok_or_else(|| Refusal::invalid_offset(text, "bad base64 encoding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Page, Value> {
        Page::parse(Some(query), true).map_err(|refusal| refusal.body["message"].clone())
    }

    fn refused(query: &str) -> String {
        parse(query).unwrap_err().as_str().unwrap().to_owned()
    }

    #[test]
    fn a_page_has_a_hundred_items_unless_more_or_fewer_are_wanted() {
        assert_eq!(Page::parse(None, true).unwrap().size, 100);
        assert_eq!(parse("size=1000&other=x").unwrap().size, 1000);
        for wrong in ["x", "", "1,5"] {
            assert_eq!(refused(&format!("size={wrong}")), "size must be a number");
        }
        for wrong in ["0", "-1", "1001", "1.5", "inf", "nan"] {
            assert_eq!(
                refused(&format!("size={wrong}")),
                "size must be an integer between 1 and 1000"
            );
        }
        let refusal = Page::parse(Some("size=1&size=2"), true).unwrap_err();
        assert_eq!((refusal.status.as_u16(), &refusal.body["code"]), (400, &json!(9)));
    }

    #[test]
    fn the_next_page_begins_where_this_one_ends() {
        let page = parse("size=2&tags=a%2Cb&other=x").unwrap();
        let answer = page.render("/services", vec![json!({"id": "1"})], Some("shop/é\n"));
        let offset = answer["offset"].as_str().unwrap();
        assert_eq!(
            answer,
            json!({
                "data": [{"id": "1"}],
                "next": format!("/services?offset={offset}&size=2&tags=a%2Cb"),
                "offset": offset,
            })
        );
        let next = answer["next"].as_str().unwrap().split_once('?').unwrap().1;
        let next = parse(next).unwrap();
        assert_eq!(
            (next.after.as_deref(), next.size, &next.tags),
            (Some("shop/é\n"), 2, &page.tags)
        );
    }

    #[test]
    fn the_last_page_has_no_offset() {
        let answer = Page::parse(None, true).unwrap().render("/services", vec![], None);
        assert_eq!(answer.to_string(), r#"{"data":[],"next":null}"#);
    }

    #[test]
    fn an_offset_of_somebody_elses_is_refused() {
        assert_eq!(
            refused("offset=x"),
            "'x' is not a valid offset: bad base64 encoding"
        );
        for wrong in ["", "%ff", "_w", "a b"] {
            assert!(
                refused(&format!("offset={wrong}")).ends_with("is not a valid offset: bad base64 encoding")
            );
        }
        assert_eq!(parse("offset=YQ%3D%3D").unwrap().after.as_deref(), Some("a"));
    }

    #[test]
    fn tags_are_all_or_any() {
        let entity = |tags: Value| json!({ "tags": tags }).as_object().unwrap().clone();
        let has = |query: &str, tags: Value| parse(query).unwrap().tags.unwrap().has(&entity(tags));
        assert!(has("tags=a,b", json!(["b", "c", "a"])));
        assert!(!has("tags=a,b", json!(["a"])));
        assert!(has("tags=a/b", json!(["b"])));
        assert!(!has("tags=a/b", json!([])));
        assert!(has("tags=blue+sky", json!(["blue sky"])));
        assert!(!has("tags=a", json!(null)));
    }

    #[test]
    fn tags_that_cannot_be_are_refused() {
        for wrong in ["a,b/c", "a,", "/a", ",", "a,,b", "%00", "%ff", "a&tags=b"] {
            assert_eq!(
                refused(&format!("tags={wrong}")),
                "invalid option (tags: invalid filter syntax)",
                "{wrong}"
            );
        }
        assert_eq!(refused("tags="), "invalid option (tags: cannot be null)");
        assert_eq!(Page::parse(Some("tags=a,b/c"), false).unwrap().tags, None);
    }
}
