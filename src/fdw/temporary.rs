//! The temporary files of one scan.

use basalt_engine::exec::Spill;

use crate::pg::eval::Evaluator;
use crate::pg::spill::TemporaryFile;

/// Files that exist once something is written to them.
pub struct Files {
    evaluator: Evaluator,
    files: Vec<TemporaryFile>,
}

impl Files {
    pub fn new(evaluator: Evaluator) -> Self {
        Files { evaluator, files: Vec::new() }
    }

    /// Another file, whose memory is the query's.
    pub fn add(&mut self) -> Box<dyn Spill> {
        let _guard = self.evaluator.in_query_context();
        let file = TemporaryFile::new();
        self.files.push(file.clone());
        Box::new(file)
    }

    /// Lets an error of PostgreSQL go on that was kept while the engine ran.
    pub fn conclude(&self) {
        self.files.iter().for_each(TemporaryFile::conclude);
    }

    /// Removes the files. Not to be called after an error of PostgreSQL.
    pub fn close(&self) {
        self.files.iter().for_each(TemporaryFile::close);
    }
}
