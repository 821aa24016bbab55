//! A writer's schema: the text that Avro has for it, its types, and its fingerprint.

use std::collections::{HashMap, HashSet};

use arrow_schema::TimeUnit;
use serde_json::{Map, Value};

use crate::formats::scalar::Clock;

/// The types of one schema, which name each other by their places.
#[derive(Debug)]
pub(super) struct Schema {
    types: Vec<Type>,
    /// Of each type, whether its values are nothing at all.
    empty: Vec<bool>,
    root: usize,
}

#[derive(Debug)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Logical),
    Long(Logical),
    Float,
    Double,
    Bytes(Logical),
    String,
    Fixed { name: String, size: usize, logical: Logical },
    Enum { name: String, symbols: Vec<String> },
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record { name: String, fields: Vec<(String, usize)> },
}

/// What the numbers or bytes are; one that this does not know is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    Days,
    Ticks(TimeUnit, Clock),
    Decimal(i64),
}

impl Schema {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // A name alone is a schema, too, also where it is no JSON.
        let value = serde_json::from_str(text).or_else(|error| match text {
            "null" => Ok(Value::String(text.to_owned())),
            _ => Err(format!("the schema is no JSON: {error}")),
        })?;
        let mut parser = Parser { types: Vec::new(), empty: Vec::new(), named: HashMap::new() };
        let root = parser.parse(&value, "")?;
        Ok(Self { types: parser.types, empty: parser.empty, root })
    }

    pub(super) fn root(&self) -> usize {
        self.root
    }

    pub(super) fn get(&self, id: usize) -> &Type {
        &self.types[id]
    }

    /// Whether values of the type are nothing at all, so that a block of few bytes may hold any number of them. A record within itself,
    /// which has no end, is not.
    pub(super) fn is_empty(&self, id: usize) -> bool {
        self.empty[id]
    }

    /// CRC-64-AVRO of the canonical form.
    pub(super) fn fingerprint(&self) -> u64 {
        const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
        let mut text = String::new();
        self.canonical(self.root, &mut HashSet::new(), &mut text);
        text.bytes().fold(EMPTY, |print, byte| {
            let mut low = (print ^ u64::from(byte)) & 0xff;
            for _ in 0..8 {
                low = (low >> 1) ^ (EMPTY & 0_u64.wrapping_sub(low & 1));
            }
            (print >> 8) ^ low
        })
    }

    /// The parsing canonical form: what readers do not need left out, in one order, without spaces.
    fn canonical(&self, id: usize, seen: &mut HashSet<usize>, out: &mut String) {
        let named = |name: &str, out: &mut String, kind: &str| *out += &format!("{{\"name\":{},\"type\":\"{kind}\"", quoted(name));
        match self.get(id) {
            Type::Null => *out += "\"null\"",
            Type::Boolean => *out += "\"boolean\"",
            Type::Int(_) => *out += "\"int\"",
            Type::Long(_) => *out += "\"long\"",
            Type::Float => *out += "\"float\"",
            Type::Double => *out += "\"double\"",
            Type::Bytes(_) => *out += "\"bytes\"",
            Type::String => *out += "\"string\"",
            Type::Fixed { name, .. } | Type::Enum { name, .. } | Type::Record { name, .. } if !seen.insert(id) => *out += &quoted(name),
            Type::Fixed { name, size, .. } => {
                named(name, out, "fixed");
                *out += &format!(",\"size\":{size}}}");
            }
            Type::Enum { name, symbols } => {
                named(name, out, "enum");
                *out += ",\"symbols\":[";
                *out += &symbols.iter().map(|symbol| quoted(symbol)).collect::<Vec<_>>().join(",");
                *out += "]}";
            }
            Type::Array(item) => {
                *out += "{\"type\":\"array\",\"items\":";
                self.canonical(*item, seen, out);
                out.push('}');
            }
            Type::Map(value) => {
                *out += "{\"type\":\"map\",\"values\":";
                self.canonical(*value, seen, out);
                out.push('}');
            }
            Type::Union(branches) => {
                for (place, branch) in branches.iter().enumerate() {
                    out.push(if place == 0 { '[' } else { ',' });
                    self.canonical(*branch, seen, out);
                }
                *out += if branches.is_empty() { "[]" } else { "]" };
            }
            Type::Record { name, fields } => {
                named(name, out, "record");
                *out += ",\"fields\":[";
                for (place, (field, of)) in fields.iter().enumerate() {
                    *out += &format!("{}{{\"name\":{},\"type\":", if place == 0 { "" } else { "," }, quoted(field));
                    self.canonical(*of, seen, out);
                    out.push('}');
                }
                *out += "]}";
            }
        }
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Parser {
    types: Vec<Type>,
    empty: Vec<bool>,
    named: HashMap<String, usize>,
}

impl Parser {
    /// serde_json's bound of depth, 128, holds here.
    fn parse(&mut self, value: &Value, space: &str) -> Result<usize, String> {
        match value {
            Value::String(name) => self.by_name(name, &Map::new(), space),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, space)).collect::<Result<Vec<_>, _>>()?;
                if branches.iter().any(|branch| matches!(self.types.get(*branch), Some(Type::Union(_)))) {
                    return Err("a union has a union as a branch".to_owned());
                }
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.by_name(kind, object, space),
                Some(inner) => self.parse(inner, space),
                None => Err("the schema has an object without a type".to_owned()),
            },
            _ => Err("a schema is a name, a list or an object".to_owned()),
        }
    }

    fn by_name(&mut self, kind: &str, object: &Map<String, Value>, space: &str) -> Result<usize, String> {
        let logical = |allowed: fn(&Logical) -> bool| Some(Logical::of(object)).filter(allowed).unwrap_or(Logical::None);
        let made = match kind {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(logical(|of| matches!(of, Logical::Days | Logical::Ticks(TimeUnit::Millisecond, Clock::OfDay)))),
            "long" => Type::Long(logical(
                |of| matches!(of, Logical::Ticks(unit, clock) if *clock != Clock::OfDay || *unit == TimeUnit::Microsecond),
            )),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(logical(|of| matches!(of, Logical::Decimal(_)))),
            "string" => Type::String,
            "array" => Type::Array(self.inner(object, "items", space)?),
            "map" => Type::Map(self.inner(object, "values", space)?),
            "record" | "error" | "enum" | "fixed" => return self.define(kind, object, space),
            name => return self.named(name, space),
        };
        Ok(self.add(made))
    }

    fn add(&mut self, made: Type) -> usize {
        self.empty.push(matches!(made, Type::Null));
        self.types.push(made);
        self.types.len() - 1
    }

    fn inner(&mut self, object: &Map<String, Value>, key: &str, space: &str) -> Result<usize, String> {
        let inner = object.get(key).ok_or_else(|| format!("an array or a map lacks {key:?}"))?;
        self.parse(inner, space)
    }

    fn named(&self, name: &str, space: &str) -> Result<usize, String> {
        let found = self.named.get(&full(name, space)).or_else(|| self.named.get(name));
        found.copied().ok_or_else(|| format!("the schema has a type {name:?} that is not defined before"))
    }

    fn define(&mut self, kind: &str, object: &Map<String, Value>, space: &str) -> Result<usize, String> {
        let name = text(object, "name").ok_or_else(|| format!("a schema's {kind} has no name"))?;
        let name = full(name, text(object, "namespace").unwrap_or(space));
        // Its place is known before its fields, which may name it.
        let id = self.add(Type::String);
        if self.named.insert(name.clone(), id).is_some() {
            return Err(format!("the schema defines {name:?} twice"));
        }
        let list = |key: &str| object.get(key).and_then(Value::as_array).ok_or_else(|| format!("{kind} {name:?} lacks {key:?}"));
        let made = match kind {
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
                let logical = Some(Logical::of(object)).filter(|of| matches!(of, Logical::Decimal(_))).unwrap_or(Logical::None);
                Type::Fixed { size: size.ok_or_else(|| format!("fixed {name:?} lacks a size"))?, logical, name }
            }
            "enum" => {
                let symbols = list("symbols")?.iter().map(|symbol| symbol.as_str().map(str::to_owned)).collect::<Option<_>>();
                Type::Enum { symbols: symbols.ok_or_else(|| format!("enum {name:?} has a symbol that is no text"))?, name }
            }
            _ => {
                let inner_space = name.rsplit_once('.').map_or("", |(space, _)| space);
                let mut names = HashSet::new();
                let mut fields = Vec::new();
                for field in list("fields")? {
                    let (Some(field_name), Some(of)) = (field.get("name").and_then(Value::as_str), field.get("type")) else {
                        return Err(format!("record {name:?} has a field without a name or a type"));
                    };
                    if !names.insert(field_name) {
                        return Err(format!("record {name:?} has a field {field_name:?} twice"));
                    }
                    fields.push((field_name.to_owned(), self.parse(of, inner_space)?));
                }
                Type::Record { fields, name }
            }
        };
        self.empty[id] = match &made {
            Type::Fixed { size, .. } => *size == 0,
            Type::Record { fields, .. } => fields.iter().all(|(_, field)| self.empty[*field]),
            _ => false,
        };
        self.types[id] = made;
        Ok(id)
    }
}

impl Logical {
    fn of(object: &Map<String, Value>) -> Self {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond};
        match text(object, "logicalType").unwrap_or("") {
            "date" => Self::Days,
            "time-millis" => Self::Ticks(Millisecond, Clock::OfDay),
            "time-micros" => Self::Ticks(Microsecond, Clock::OfDay),
            "timestamp-millis" => Self::Ticks(Millisecond, Clock::Instant),
            "timestamp-micros" => Self::Ticks(Microsecond, Clock::Instant),
            "timestamp-nanos" => Self::Ticks(Nanosecond, Clock::Instant),
            "local-timestamp-millis" => Self::Ticks(Millisecond, Clock::Local),
            "local-timestamp-micros" => Self::Ticks(Microsecond, Clock::Local),
            "local-timestamp-nanos" => Self::Ticks(Nanosecond, Clock::Local),
            "decimal" => match object.get("scale").map_or(Some(0), Value::as_i64) {
                Some(scale @ 0..=1024) if object.get("precision").is_some_and(Value::is_u64) => Self::Decimal(scale),
                _ => Self::None,
            },
            _ => Self::None,
        }
    }
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn full(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}
