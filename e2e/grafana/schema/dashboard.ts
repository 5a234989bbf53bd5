// What a dashboard of this project may hold: Grafana's own types, with the
// options of each panel by its type. Grafana types neither the targets of
// Prometheus nor what its annotations add, so those are written here after
// its Prometheus data source.
import type { Dashboard as AnyDashboard, Panel as AnyPanel, RowPanel, AnnotationQuery, DashboardLink } from '@grafana/schema';
import type * as raw from './node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import type * as Stat from './node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import type * as TimeSeries from './node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import type * as BarGauge from './node_modules/@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/types.gen';
import type * as Table from './node_modules/@grafana/schema/dist/types/raw/composable/table/panelcfg/x/types.gen';
import type * as Text from './node_modules/@grafana/schema/dist/types/raw/composable/text/panelcfg/x/types.gen';

interface Target {
  datasource: raw.DataSourceRef; editorMode: 'code' | 'builder'; exemplar?: boolean; expr: string; format?: 'time_series' | 'table' | 'heatmap';
  hide?: boolean; instant: boolean; interval?: string; legendFormat: string; range: boolean; refId: string;
}
interface DataLink { oneClick?: boolean; targetBlank?: boolean; title: string; url: string }
interface Field<Custom> extends Omit<raw.FieldConfig, 'custom' | 'links'> { custom?: Custom; links?: DataLink[] }

// Properties that overrides may set, by id; a misspelt id or value is an error.
type Settable<Custom> =
  | { [K in keyof Required<Field<Custom>>]: { id: K; value: Required<Field<Custom>>[K] } }[Exclude<keyof Field<Custom>, 'custom'>]
  | { [K in keyof Required<Custom>]: K extends string ? { id: `custom.${K}`; value: Required<Custom>[K] } : never }[keyof Custom];
interface Override<Custom> { matcher: { id: 'byName' | 'byRegexp' | 'byFrameRefID' | 'byType'; options: string }; properties: Array<Settable<Custom>> }

interface JoinByField { id: 'joinByField'; options: { byField: string; mode: 'inner' | 'outer' } }
interface Organize { id: 'organize'; options: { excludeByName: Record<string, boolean>; includeByName: Record<string, boolean>; indexByName: Record<string, number>; renameByName: Record<string, string> } }
interface Merge { id: 'merge'; options: Record<string, never> }
interface RenameByRegex { id: 'renameByRegex'; options: { regex: string; renamePattern: string } }

interface Panel<Type extends string, Options, Custom> extends Omit<AnyPanel, 'type' | 'options' | 'fieldConfig' | 'targets' | 'transformations' | 'links'> {
  type: Type; options: Options; targets?: Target[]; transformations?: Array<JoinByField | Merge | Organize | RenameByRegex>; links?: DashboardLink[];
  fieldConfig: { defaults: Field<Custom>; overrides: Array<Override<Custom>> };
}
interface NoCustom {}
type OnePanel =
  | Panel<'stat', Stat.Options, NoCustom>
  | Panel<'timeseries', TimeSeries.Options, TimeSeries.FieldConfig>
  | Panel<'bargauge', BarGauge.Options, NoCustom>
  | Panel<'table', Table.Options, Table.FieldConfig>
  | Panel<'text', Text.Options, NoCustom>;
interface Row extends Omit<RowPanel, 'panels'> { panels: OnePanel[] }

interface Annotation extends Omit<AnnotationQuery, 'target'> {
  target?: { expr: string; interval: string; refId: string }; tagKeys?: string; textFormat?: string; titleFormat?: string; useValueForTime?: boolean;
}

export interface Dashboard extends Omit<AnyDashboard, 'panels' | 'annotations'> {
  panels: Array<OnePanel | Row>; annotations: { list: Annotation[] };
}
