//! Cuts a set of file descriptors down to the messages that some roots need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

use crate::subset::is_left_out;

/// The well-known types are taken from `prost-types`.
const WELL_KNOWN: &str = ".google.protobuf.";

/// The files of the messages that the roots need, without services, options, other messages, deprecated fields and
/// fields of a type that is left out.
pub(crate) fn prune(files: &BTreeMap<String, FileDescriptorProto>, roots: &[&str]) -> Result<FileDescriptorSet> {
    let mut messages = BTreeMap::new();
    for file in files.values() {
        for message in &file.message_type {
            index(&format!(".{}", file.package()), message, &mut messages);
        }
    }
    let needed = closure(&messages, roots)?;
    let file = files.values().filter_map(|file| prune_file(file, &needed)).collect();
    Ok(FileDescriptorSet { file })
}

fn index<'a>(scope: &str, message: &'a DescriptorProto, messages: &mut BTreeMap<String, &'a DescriptorProto>) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        index(&name, nested, messages);
    }
    messages.insert(name, message);
}

/// Names of the messages and enums that the roots need, the roots included.
fn closure(messages: &BTreeMap<String, &DescriptorProto>, roots: &[&str]) -> Result<BTreeSet<String>> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
    while let Some(name) = open.pop() {
        if !needed.insert(name.clone()) {
            continue;
        }
        // What is not a message is an enum.
        let Some(message) = messages.get(&name) else {
            continue;
        };
        open.extend(message.field.iter().filter(|field| is_kept(field)).filter_map(type_of).map(str::to_owned));
        // A nested message is a path below its parent, in Rust too.
        if let Some((parent, _)) = name.rsplit_once('.').filter(|(parent, _)| messages.contains_key(*parent)) {
            open.push(parent.to_owned());
        }
    }
    for root in roots {
        ensure!(messages.contains_key(*root), "no message {root}");
    }
    Ok(needed)
}

/// The message or enum that a field holds, unless it is a well-known one.
fn type_of(field: &FieldDescriptorProto) -> Option<&str> {
    field.type_name.as_deref().filter(|name| !name.starts_with(WELL_KNOWN))
}

fn is_kept(field: &FieldDescriptorProto) -> bool {
    let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
    !deprecated && type_of(field).is_none_or(|name| !is_left_out(name))
}

fn prune_file(file: &FileDescriptorProto, needed: &BTreeSet<String>) -> Option<FileDescriptorProto> {
    let scope = format!(".{}", file.package());
    let message_type: Vec<_> =
        file.message_type.iter().filter_map(|message| prune_message(&scope, message, needed)).collect();
    let enum_type: Vec<_> =
        file.enum_type.iter().filter(|kind| needed.contains(&format!("{scope}.{}", kind.name()))).cloned().collect();
    if message_type.is_empty() && enum_type.is_empty() {
        return None;
    }
    Some(FileDescriptorProto {
        name: file.name.clone(),
        package: file.package.clone(),
        syntax: file.syntax.clone(),
        message_type,
        enum_type,
        ..Default::default()
    })
}

fn prune_message(scope: &str, message: &DescriptorProto, needed: &BTreeSet<String>) -> Option<DescriptorProto> {
    let name = format!("{scope}.{}", message.name());
    if !needed.contains(&name) {
        return None;
    }
    let mut field: Vec<_> = message.field.iter().filter(|field| is_kept(field)).cloned().collect();
    // A oneof that lost all its fields goes; the others move up.
    let used: BTreeSet<i32> = field.iter().filter_map(|field| field.oneof_index).collect();
    let moved: BTreeMap<i32, i32> = used.iter().zip(0..).map(|(&before, after)| (before, after)).collect();
    for field in &mut field {
        field.oneof_index = field.oneof_index.map(|before| moved[&before]);
        field.options = None;
    }
    Some(DescriptorProto {
        name: message.name.clone(),
        field,
        nested_type: message.nested_type.iter().filter_map(|nested| prune_message(&name, nested, needed)).collect(),
        enum_type: message
            .enum_type
            .iter()
            .filter(|kind| needed.contains(&format!("{name}.{}", kind.name())))
            .cloned()
            .collect(),
        oneof_decl: used.iter().filter_map(|&index| message.oneof_decl.get(index as usize)).cloned().collect(),
        // Says of a map's entry that it is one.
        options: message.options.clone(),
        ..Default::default()
    })
}

/// How many messages and fields a set has.
pub(crate) fn count(set: &FileDescriptorSet) -> Result<(usize, usize)> {
    fn add(message: &DescriptorProto, total: &mut (usize, usize)) -> Result<()> {
        total.0 += 1;
        total.1 += message.field.len();
        for field in &message.field {
            let kind = Type::try_from(field.r#type.context("a field without a type")?)?;
            ensure!(kind != Type::Group, "{} is a group", field.name());
        }
        message.nested_type.iter().try_for_each(|nested| add(nested, total))
    }
    let mut total = (0, 0);
    set.file.iter().flat_map(|file| &file.message_type).try_for_each(|message| add(message, &mut total))?;
    Ok(total)
}
