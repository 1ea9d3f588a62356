//! What a plan carries from planning to execution: plain data, serialized into `fdw_private`. Expressions are not in it: it names them by
//! their position in `fdw_exprs`, where PostgreSQL finds their parameters; a column in them is a placeholder.

use basalt_engine::plan::Expr;
pub use basalt_engine::plan::{AggregateFunction, Comparison, OrderId, Statistic};
use basalt_engine::types::LogicalType;
use serde::{Deserialize, Serialize};

/// Changes whenever an older plan could not be read as what it meant.
pub const VERSION: u32 = 5;

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct PlanTemplate {
    pub version: u32,
    /// Every other number of a column is a position in this list.
    pub columns: Vec<ColumnTemplate>,
    pub classes: Vec<ClassTemplate>,
    pub dimensions: Vec<DimensionTemplate>,
    pub filter: FilterTemplate,
    /// The outer join of whose other side every row shows.
    pub kept: Option<KeptTemplate>,
    pub shape: Shape,
    /// Why what could be expected here was not pushed down, for EXPLAIN.
    pub reasons: Vec<String>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum ColumnTemplate {
    /// A column id.
    Stored(u32),
    Computed(ComputedTemplate),
    Mapped(MappedTemplate),
    Lookup(LookupColumn),
    Pair(PairColumn),
    Attribute(AttributeColumn),
    /// The row numbers of what no row of the datasource is joined to; NULL in the datasource's own rows.
    Unmatched,
}

/// How a dimension is joined.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    Inner,
    Left,
    Semi,
    Anti,
    /// As a filter only: the join itself is PostgreSQL's.
    Filter,
    /// Every row of the dimension shows, with the datasource's rows or without.
    Right,
    /// And every row of the datasource.
    Full,
}

/// A relation that is looked up by keys. A plan of its own, an InitPlan of the query, gives its rows: keys, then attributes.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct DimensionTemplate {
    pub name: String,
    pub join: Join,
    /// As SQL, for EXPLAIN.
    pub condition: String,
    /// The column of row numbers.
    pub lookup: usize,
    /// Whether a row must fulfil more than equality of keys to be found.
    pub conditional: bool,
    /// Whether it is joined below the outer join that keeps the other side's rows.
    pub below: bool,
    pub keys: Vec<KeyPart>,
    pub attributes: Vec<AttributeTemplate>,
}

/// One of the keys by which a dimension is looked up.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub struct KeyPart {
    /// The column whose values are looked for.
    pub column: usize,
    pub ty: LogicalType,
    pub domain: Domain,
}

/// An outer join with the datasource on the side that may be NULL.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct KeptTemplate {
    /// The dimension whose rows all show.
    pub dimension: usize,
    /// The column of the rows that the datasource's rows match, and that of those which no row matches.
    pub matched: usize,
    pub unmatched: usize,
    /// Which rows of the datasource are joined.
    pub below: FilterTemplate,
}

/// The type of a dimension's attribute.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub struct AttributeTemplate {
    pub ty: LogicalType,
    pub declared: u32,
    pub typmod: i32,
}

/// Numbers of a dimension's rows, or of the values of one of several keys.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct LookupColumn {
    /// What is looked up.
    pub column: usize,
    pub dimension: usize,
    /// In which of the dimension's indexes: first those of its keys, then, of several keys, those of their pairs.
    pub index: usize,
}

/// One number for the numbers of two keys' values: what the pair's index is looked up by.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct PairColumn {
    pub dimension: usize,
    /// The first pair is of the first two keys; each further one of the pair before it and the next key.
    pub nth: usize,
    pub left: usize,
    pub right: usize,
}

/// What a dimension's rows hold.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct AttributeColumn {
    /// The column of row numbers.
    pub column: usize,
    pub dimension: usize,
    /// Position in the dimension's attributes.
    pub at: usize,
    /// Its number among the datasource's attributes; 0: it is one only within the join's condition.
    pub number: i16,
    pub ty: LogicalType,
    pub declared: u32,
    pub typmod: i32,
    pub text: String,
}

/// What PostgreSQL makes of each distinct value of a stored column, or combination of values of several.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct MappedTemplate {
    pub columns: Vec<usize>,
    /// With the column as placeholder; of several, the placeholder is a row of the table.
    pub expression: usize,
    /// Numbers of this class in place of values.
    pub class: Option<usize>,
    pub ty: LogicalType,
    /// PostgreSQL's type and modifier of the expression.
    pub declared: u32,
    pub typmod: i32,
    pub of_null: bool,
    /// No value makes it fail.
    pub infallible: bool,
    pub text: String,
}

/// A type whose values are numbered so that equal ones have one number.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub struct ClassTemplate {
    pub ty: u32,
    pub collation: u32,
}

/// A column that the engine computes from those before it.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct ComputedTemplate {
    pub expr: ExprTemplate,
    pub ty: LogicalType,
    /// PostgreSQL's type and modifier of its values.
    pub declared: u32,
    pub typmod: i32,
    /// The expression as SQL, for EXPLAIN.
    pub text: String,
}

pub type ExprTemplate = Expr<ConstantTemplate, FilterTemplate>;

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub enum ConstantTemplate {
    Integer(i64),
    /// An expression without columns, of an integer type, boolean, or a time.
    Ordinal {
        expression: usize,
    },
    Float {
        expression: usize,
    },
    /// A numeric of at most this many decimals.
    Decimal {
        expression: usize,
        scale: u8,
    },
    /// The number of its value's class.
    Class {
        expression: usize,
        class: usize,
    },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum Shape {
    /// Rows of the table; the columns listed are fetched, others are NULL in the slot.
    Rows {
        output: Vec<usize>,
        /// Only the first rows are needed.
        top: Option<RowTopTemplate>,
    },
    Groups(GroupsTemplate),
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct GroupsTemplate {
    pub keys: Vec<KeyTemplate>,
    pub aggregates: Vec<AggregateTemplate>,
    /// What each column of the scan's tuple is.
    pub targets: Vec<Target>,
    /// GROUP BY of constants only: no row, no group. The last aggregate is then a count of rows.
    pub drop_empty: bool,
    /// Collations of orders asked for by `Min` and `Max`.
    pub orders: Vec<u32>,
    /// Only the first groups are needed.
    pub top: Option<TopTemplate>,
    /// Positions in `keys` that each grouping set groups by; without GROUPING SETS one set, of all keys.
    pub sets: Vec<Vec<usize>>,
    /// Positions in `keys` that each `GROUPING()` asks about.
    pub groupings: Vec<Vec<usize>>,
    pub folds: Vec<FoldTemplate>,
    /// Positions in `targets` of folded calls that use dimensions: behind the tuple's columns `fdw_scan_tlist` has them with
    /// dimensions' columns numbered as the datasource's.
    pub localized: Vec<usize>,
}

/// ORDER BY and LIMIT: the first groups by these terms, and all that tie with the last of them unless the terms are all there is.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct TopTemplate {
    pub terms: Vec<TermTemplate>,
    /// Whether nothing else orders the groups.
    pub complete: bool,
    /// Numbers of expressions.
    pub limit: usize,
    pub offset: Option<usize>,
}

/// ORDER BY and LIMIT over rows: the first by a column, and all that tie with the last of them.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub struct RowTopTemplate {
    pub column: usize,
    pub descending: bool,
    pub nulls_first: bool,
    /// Numbers of expressions.
    pub limit: usize,
    pub offset: Option<usize>,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub struct TermTemplate {
    pub target: Target,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub enum Target {
    Key(usize),
    Aggregate(usize),
    /// A position in `GroupsTemplate::groupings`.
    Grouping(usize),
    /// A position in `GroupsTemplate::folds`, and which of its aggregates.
    Folded(usize, usize),
}

/// Aggregates that PostgreSQL computes from the distinct combinations of some columns' values in each group, and how often each occurs.
/// The calls themselves are entries of `fdw_scan_tlist`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct FoldTemplate {
    /// Positions in the plan's columns, ascending.
    pub columns: Vec<usize>,
    /// The calls' FILTER; `None`: PostgreSQL evaluates it.
    pub filter: Option<FilterTemplate>,
    /// The results do not depend on how often values occur.
    pub once: bool,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum KeyTemplate {
    Column(usize),
    /// A column of the numbers of a class.
    Class {
        column: usize,
        class: usize,
    },
    /// The expression (with the column as placeholder) is constant between the boundaries of `pieces`.
    Buckets {
        column: usize,
        expression: usize,
        pieces: Vec<Pieces>,
    },
}

/// Where a function of time may change its value.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Pieces {
    pub unit: Unit,
    pub clock: Clock,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    /// ISO weeks: from Monday.
    Week,
    Month,
    Year,
    /// Only at changes of the zone's offset.
    Offset,
    /// `date_bin`: multiples of a stride from an origin, both expressions.
    Bin {
        stride: usize,
        origin: usize,
    },
}

/// On which clock the units are counted.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The stored time itself.
    Stored,
    /// The session's TimeZone; `local`: the expression of the local time.
    Session { local: usize },
    /// The zone that an expression names.
    Zone { local: usize, zone: usize },
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct AggregateTemplate {
    /// An [`OrderId`] in it is a position in `GroupsTemplate::orders`.
    pub function: AggregateFunction,
    pub filter: FilterTemplate,
    pub result: Finish,
    /// The aggregate that says how many decimals a numeric result shows, where that differs from row to row.
    pub decimals: Option<usize>,
}

/// How the engine's result becomes PostgreSQL's.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub enum Finish {
    /// An int8; of sums beyond its range an error.
    Int8,
    Bool,
    Float4,
    Float8,
    /// A numeric of this scale.
    Numeric {
        scale: u8,
    },
    /// PostgreSQL's own division of the sum (a numeric of this scale) by the count.
    NumericAverage {
        scale: u8,
    },
    FloatAverage,
    /// A float8 as it is.
    Float,
    /// PostgreSQL's own division of the numerator (a numeric of twice this scale), and of that the square root if `root`.
    NumericVariance {
        scale: u8,
        sample: bool,
        root: bool,
    },
    /// A value of the column's type.
    Column(usize),
}

/// A filter in negation normal form whose operands are not known yet.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub enum FilterTemplate {
    And(Vec<FilterTemplate>),
    Or(Vec<FilterTemplate>),
    /// An expression without columns; `negated`: selects where it is false.
    Constant {
        expression: usize,
        negated: bool,
    },
    Leaf(Leaf),
    /// A leaf of a stored time column whose test is constant between the boundaries of `pieces` (else it is one that PostgreSQL evaluates).
    Pieces {
        leaf: Leaf,
        pieces: Vec<Pieces>,
    },
}

impl FilterTemplate {
    pub fn everything() -> Self {
        FilterTemplate::And(Vec::new())
    }

    /// Whether times have to be cut into pieces before it can be bound.
    pub fn has_pieces(&self) -> bool {
        match self {
            FilterTemplate::And(parts) | FilterTemplate::Or(parts) => parts.iter().any(FilterTemplate::has_pieces),
            FilterTemplate::Constant { .. } | FilterTemplate::Leaf(_) => false,
            FilterTemplate::Pieces { .. } => true,
        }
    }
}

/// A test of one column.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Leaf {
    pub column: usize,
    /// The whole test, in `fdw_exprs`.
    pub expression: usize,
    /// Selects rows of which the test is false (not those of which it is NULL).
    pub negated: bool,
    pub test: LeafTest,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq)]
pub enum LeafTest {
    IsNull,
    /// A boolean column by itself, or IS [NOT] TRUE, FALSE of it: selects this value, and NULL if `or_null`.
    Bool {
        value: bool,
        or_null: bool,
    },
    /// `column op operand`; `operand` is the position of the argument that is not the column.
    Compare {
        op: Comparison,
        operand: usize,
        domain: Domain,
    },
    /// `column op ANY (array)` if `any`, else ALL.
    Array {
        op: Comparison,
        any: bool,
        domain: Domain,
    },
    /// IS DISTINCT FROM
    Distinct {
        operand: usize,
        domain: Domain,
    },
    /// Evaluated by PostgreSQL on distinct values; `null_too`: on NULL as well.
    Host {
        null_too: bool,
    },
}

/// How operands compare with the column's stored values.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Integers of any width, booleans.
    Integer,
    /// The stored integer is a decimal of this scale; `nan`: its largest value stands for NaN.
    Decimal {
        scale: u8,
        nan: bool,
    },
    Float,
    /// int2 or int4 compared as float8.
    IntegerAsFloat,
    Time,
    /// Byte strings: text where byte order or equality is SQL's, uuid, bytea.
    Bytes,
}
