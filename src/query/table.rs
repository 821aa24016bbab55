//! What a query may name: the stream as a table, and functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_common::arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};

use super::functions;

/// The stream's columns.
#[derive(Debug)]
pub(crate) struct Columns(pub(crate) SchemaRef);

impl TableSource for Columns {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }
}

/// The names of a query.
#[derive(Debug)]
pub(crate) struct Names {
    stream: String,
    columns: Arc<Columns>,
    options: ConfigOptions,
    functions: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Names {
    /// Those of a stream with this schema.
    pub(crate) fn new(stream: &str, schema: SchemaRef) -> Self {
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        ];
        let mut options = ConfigOptions::default();
        // Columns are named as they are: `userId` is no `userid`.
        options.sql_parser.enable_ident_normalization = false;
        // A text is Utf8 in all readers; views are not yet.
        options.sql_parser.map_string_types_to_utf8view = false;
        Self {
            stream: stream.to_owned(),
            columns: Arc::new(Columns(schema)),
            options,
            functions: functions::all(),
            aggregates: BTreeMap::new(),
            planners,
        }
    }

    /// With functions of many rows, too, and what plans them.
    #[cfg(feature = "flow")]
    pub(crate) fn with_aggregates(mut self, aggregates: BTreeMap<String, Arc<AggregateUDF>>, planner: Arc<dyn ExprPlanner>) -> Self {
        self.aggregates = aggregates;
        self.planners.push(planner);
        self
    }

    /// The settings that it is planned with.
    pub(crate) fn settings(&self) -> &ConfigOptions {
        &self.options
    }
}

impl ContextProvider for Names {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if name.to_string() != self.stream {
            let stream = &self.stream;
            let reason = format!("it reads from {name}, but is asked of stream {stream}: write FROM \"{stream}\"");
            return Err(DataFusionError::Plan(reason));
        }
        Ok(self.columns.clone())
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(&name.to_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_lowercase()).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
