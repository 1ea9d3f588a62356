//! What an event trigger learns of the command that fired it.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::function::Arguments;
use super::list;

/// The parts of a command that concern identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// CREATE FOREIGN TABLE, of any wrapper.
    pub creates_foreign_table: bool,
    /// Adds a column somewhere.
    pub adds_column: bool,
    /// Columns whose type it changes, by name.
    pub retypes: Vec<String>,
    /// Options that it sets, adds or drops: on which column (`None`: the table), name, and whether it only adds.
    pub options: Vec<(Option<String>, String, bool)>,
    /// Options of columns that it adds.
    pub new_column_options: Vec<String>,
    /// Renames a value of an enum, or changes the attributes of a composite type.
    pub reshapes_type: bool,
}

/// Raises unless `call` is that of an event trigger function.
pub fn command(call: &Arguments) -> Command {
    let mut command = Command::default();
    // SAFETY: a call's context is null or a node, of which the type is checked; parse trees are valid nodes.
    unsafe {
        let data = (*call.call()).context.cast::<pg_sys::EventTriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_EventTriggerData {
            crate::error::Error::new(
                pgrx::PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED,
                "this function can only be called by an event trigger",
            )
            .raise();
        }
        command.creates_foreign_table = (*data).tag == pg_sys::CommandTag::CMDTAG_CREATE_FOREIGN_TABLE;
        let tree = (*data).parsetree;
        if tree.is_null() {
            return command;
        }
        if (*tree).type_ == pg_sys::NodeTag::T_AlterEnumStmt {
            command.reshapes_type = !(*tree.cast::<pg_sys::AlterEnumStmt>()).oldVal.is_null();
        }
        if (*tree).type_ != pg_sys::NodeTag::T_AlterTableStmt {
            return command;
        }
        let altered = tree.cast::<pg_sys::AlterTableStmt>();
        if (*altered).objtype == pg_sys::ObjectType::OBJECT_TYPE {
            command.reshapes_type = true;
            return command;
        }
        for part in list::pointers::<pg_sys::AlterTableCmd>((*altered).cmds) {
            let name = (*part).name;
            let name = (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned());
            match (*part).subtype {
                pg_sys::AlterTableType::AT_AddColumn => {
                    command.adds_column = true;
                    let definition = (*part).def.cast::<pg_sys::ColumnDef>();
                    if !definition.is_null() {
                        let options = list::pointers::<pg_sys::DefElem>((*definition).fdwoptions);
                        command.new_column_options.extend(options.into_iter().map(|o| option_name(o)));
                    }
                }
                pg_sys::AlterTableType::AT_AlterColumnType => command.retypes.extend(name),
                pg_sys::AlterTableType::AT_GenericOptions | pg_sys::AlterTableType::AT_AlterColumnGenericOptions => {
                    for option in list::pointers::<pg_sys::DefElem>((*part).def.cast()) {
                        let action = (*option).defaction;
                        let adds = action == pg_sys::DefElemAction::DEFELEM_ADD
                            || action == pg_sys::DefElemAction::DEFELEM_UNSPEC;
                        command.options.push((name.clone(), option_name(option), adds));
                    }
                }
                _ => {}
            }
        }
    }
    command
}

/// # Safety
/// `option` is one of the parser's.
unsafe fn option_name(option: *mut pg_sys::DefElem) -> String {
    // SAFETY: a DefElem of the parser has a name.
    unsafe { CStr::from_ptr((*option).defname).to_string_lossy().into_owned() }
}

/// The relation's name, qualified and quoted.
pub fn qualified_name(relation: pg_sys::Oid) -> String {
    // SAFETY: the relation exists: its names are palloc'ed C strings.
    unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        let name = pg_sys::get_rel_name(relation);
        CStr::from_ptr(pg_sys::quote_qualified_identifier(schema, name)).to_string_lossy().into_owned()
    }
}

/// An identifier, quoted if it must be.
pub fn quoted(name: &str) -> String {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: a C string in, a C string out.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())).to_string_lossy().into_owned() }
}

/// A string constant, quoted.
pub fn literal(value: &str) -> String {
    let value = std::ffi::CString::new(value).unwrap_or_default();
    // SAFETY: a C string in, a palloc'ed C string out.
    unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(value.as_ptr())).to_string_lossy().into_owned() }
}

/// `schema.type` without type modifier.
pub fn type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: gives a palloc'ed C string for every oid.
    unsafe {
        let flags = pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_ALLOW_INVALID;
        CStr::from_ptr(pg_sys::format_type_extended(type_oid, -1, flags as u16)).to_string_lossy().into_owned()
    }
}
