//! What to change so that more is pushed down, by the reason why it was not.

/// Parts of reasons, and what to do about them.
const ADVICE: &[(&str, &str)] = &[
    ("volatile", "call volatile functions in a query around this one"),
    ("it returns a set", "call functions that return sets in a query around this one"),
    ("it contains a subquery", "join the subquery instead of computing it for each row"),
    ("it refers to another table", "join by keys instead of referring to another table's rows"),
    ("a system column or the whole row", "name the columns that are needed"),
    ("its collation is not deterministic", "use a deterministic collation"),
    ("its direct argument is a grouping column", "make the direct argument a constant"),
    ("it uses more than", "store what the expression computes in a column"),
    ("too many combinations", "store what the expression computes in a column"),
    ("too many distinct values", "store what the expression computes in a column"),
    (
        "it may fail in rows that a condition leaves out",
        "guard what may fail (casts, divisions) by a CASE of few columns, or store it in a column",
    ),
    ("38 digits", "cast to numeric of fewer digits, or to double precision"),
    ("may exceed 128 bits", "cast to numeric of fewer digits, or to double precision"),
    ("too many decimals", "round to fewer decimals"),
    ("how many decimals its values show differs", "cast to numeric with precision and scale"),
    ("different numbers of decimals", "round to one number of decimals"),
    ("how many decimals a numeric parameter has", "cast the parameter to numeric with precision and scale"),
    ("numeric without precision and scale", "declare the column's precision and scale"),
    ("its second argument is not a constant", "make the number of decimals a constant"),
    ("whole row of a joined table", "name the columns that are needed"),
    (
        "show that they are a key",
        "give the joined table a unique index on these columns, or group or DISTINCT it by them first",
    ),
    ("a join without a key", "join by equality of keys"),
    ("not by equality with a key", "join by equality of keys"),
    ("with the join's operator", "join by columns of integer, text, date, uuid or numeric types"),
    ("depends on other relations' rows", "join by equality of keys instead of LATERAL"),
    ("more than half of basalt.query_memory_limit", "raise basalt.query_memory_limit, or filter the joined tables"),
    ("inner side is a join itself", "join each table by a LEFT JOIN of its own"),
    ("full join of", "join with one table at a time, the others in a query around it"),
    ("keep rows of which", "aggregate before the second outer join"),
    ("filtered by a volatile function", "call volatile functions in a query around this one"),
    ("in a recursive query", "aggregate outside of the recursive query"),
    ("that row security or a security barrier hides", "join by columns themselves, not by expressions that may fail"),
];

/// What may be done about `reasons`, each once.
pub fn advice<'r>(reasons: impl IntoIterator<Item = &'r str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for reason in reasons {
        let fits = |(part, _): &&(&str, &str)| reason.contains(part);
        for (_, advice) in ADVICE.iter().filter(fits) {
            if !found.contains(advice) {
                found.push(*advice);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::advice;

    #[test]
    fn each_advice_is_given_once() {
        let reasons = ["function concat: it uses more than 4 columns", "it uses more than 4 columns", "unheard of"];
        assert_eq!(advice(reasons), ["store what the expression computes in a column"]);
    }
}
