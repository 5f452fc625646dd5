//! The public face of the vocabulary: the list of kinds, documents, and text.

mod documents;
mod examples;
mod features;
mod kinds;
mod properties;
mod text;
