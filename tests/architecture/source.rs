//! What one source file says of others: its modules, imports, items and the paths that it names, from its syntax tree.
//! Code that only tests compile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemImpl, ItemUse, Stmt, UseTree, Visibility};

#[derive(Default)]
pub(super) struct Source {
    /// The modules that it declares as files of their own.
    pub(super) children: Vec<String>,
    /// What it defines, and whether that is a type.
    pub(super) items: BTreeMap<String, bool>,
    /// Each imported name, and the path that it stands for.
    pub(super) imports: BTreeMap<String, String>,
    /// The paths that it names, as they are written. A re-export is not among them: it hands a name on.
    pub(super) paths: BTreeSet<String>,
    /// The names that it re-exports, and the paths that they stand for.
    pub(super) re_exports: BTreeMap<String, String>,
    /// The types that it has methods for: of `impl Type`, not of `impl Trait for Type`.
    pub(super) method_types: BTreeSet<String>,
    /// It has an `async` or an `.await`.
    pub(super) waits: bool,
}

impl Source {
    pub(super) fn parse(text: &str) -> Result<Self, syn::Error> {
        let file = syn::parse_file(text)?;
        let mut source = Self::default();
        for item in file
            .items
            .iter()
            .filter(|item| !is_for_tests(attributes(item)))
        {
            source.items.extend(definition(item));
        }
        source.visit_file(&file);
        Ok(source)
    }

    /// Re-exports included.
    pub(super) fn all_paths(&self) -> impl Iterator<Item = &str> {
        self.paths
            .iter()
            .chain(self.re_exports.values())
            .map(String::as_str)
    }

    /// Writes out `a::{b, c::d as e}`: `a::b` and, as `e`, `a::c::d`.
    fn add_use(&mut self, tree: &UseTree, prefix: &str, re_exports: bool) {
        let below = |ident: &dyn Display| {
            if prefix.is_empty() {
                ident.to_string()
            } else {
                format!("{prefix}::{ident}")
            }
        };
        let (name, path) = match tree {
            UseTree::Path(step) => {
                return self.add_use(&step.tree, &below(&step.ident), re_exports);
            }
            UseTree::Group(group) => {
                return group
                    .items
                    .iter()
                    .for_each(|tree| self.add_use(tree, prefix, re_exports));
            }
            UseTree::Glob(_) => (String::new(), prefix.to_owned()),
            UseTree::Name(name) if name.ident == "self" => {
                (last(prefix).to_owned(), prefix.to_owned())
            }
            UseTree::Name(name) => (name.ident.to_string(), below(&name.ident)),
            UseTree::Rename(rename) => (rename.rename.to_string(), below(&rename.ident)),
        };
        if re_exports {
            self.re_exports.insert(name, path);
        } else {
            self.paths.insert(path.clone());
            self.imports.insert(name, path);
        }
    }

    /// The paths in the tokens of a macro or an attribute, which have no syntax tree.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path = String::new();
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => path.push(':'),
                TokenTree::Ident(ident) => {
                    if !path.ends_with("::") {
                        self.end_path(&mut path);
                    }
                    self.waits |= ident == "await" || ident == "async";
                    path.push_str(&ident.to_string());
                }
                TokenTree::Group(group) => {
                    self.end_path(&mut path);
                    self.add_tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.end_path(&mut path),
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut String) {
        let whole = std::mem::take(path);
        let whole = whole.trim_matches(':');
        if !whole.is_empty() {
            self.paths.insert(whole.to_owned());
        }
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let for_tests = match item {
            ImplItem::Fn(item) => is_for_tests(&item.attrs),
            ImplItem::Const(item) => is_for_tests(&item.attrs),
            _ => false,
        };
        if !for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let for_tests = matches!(statement, Stmt::Local(local) if is_for_tests(&local.attrs));
        if !for_tests {
            visit::visit_stmt(self, statement);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_none() {
            self.children.push(module.ident.to_string());
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let re_exports = !matches!(item.vis, Visibility::Inherited);
        self.add_use(&item.tree, "", re_exports);
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        if let (None, syn::Type::Path(of)) = (&block.trait_, &*block.self_ty) {
            self.method_types.insert(joined(&of.path));
        }
        visit::visit_item_impl(self, block);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.insert(joined(path));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(super)` says who may name this, not what it names.
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.waits = true;
        visit::visit_expr_await(self, expression);
    }

    fn visit_expr_async(&mut self, expression: &'ast syn::ExprAsync) {
        self.waits = true;
        visit::visit_expr_async(self, expression);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.waits |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }
}

/// A path without its generic arguments.
fn joined(path: &syn::Path) -> String {
    let segments = path.segments.iter();
    let names: Vec<_> = segments.map(|segment| segment.ident.to_string()).collect();
    names.join("::")
}

fn last(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or_default()
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name of what an item defines, and whether that is a type.
fn definition(item: &Item) -> Option<(String, bool)> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    let is_type = matches!(
        item,
        Item::Enum(_) | Item::Struct(_) | Item::Trait(_) | Item::Type(_)
    );
    Some((name.to_string(), is_type))
}
