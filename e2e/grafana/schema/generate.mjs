// Writes dashboard.schema.json: a strict JSON Schema of dashboard.ts, that is,
// of Grafana's own types. After a change here or of Grafana's version:
//
//   npm ci --ignore-scripts && node generate.mjs
import { writeFileSync } from 'node:fs';
import { createGenerator } from 'ts-json-schema-generator';

const schema = createGenerator({
  path: 'dashboard.ts',
  tsconfig: 'tsconfig.json',
  type: 'Dashboard',
  // Two of Grafana's packages have a type of the same name, which cannot both be
  // definitions. So all is written in place, and what repeats is taken out below.
  expose: 'none',
  jsDoc: 'none',
}).createSchema('Dashboard');

// A union whose members are told apart by a constant becomes a choice by it:
// what does not fit is then reported against the one member that was meant.
const choose = (node) => {
  if (node === null || typeof node !== 'object') return node;
  if (Array.isArray(node)) return node.map(choose);
  const chosen = Object.fromEntries(Object.entries(node).map(([k, v]) => [k, choose(v)]));
  const members = chosen.anyOf ?? [];
  for (const key of ['type', 'id']) {
    const values = members.map((m) => m.properties?.[key]?.const);
    if (members.length < 2 || values.includes(undefined) || new Set(values).size < values.length) continue;
    const { anyOf, ...rest } = chosen;
    return {
      ...rest, type: 'object', required: [key], properties: { [key]: { enum: values } },
      allOf: members.map((then, i) => ({ if: { properties: { [key]: { const: values[i] } } }, then })),
    };
  }
  return chosen;
};
const dashboard = choose(schema.definitions.Dashboard);

const count = new Map();
const text = (node) => JSON.stringify(node);
const walk = (node) => {
  if (node === null || typeof node !== 'object') return;
  if (!Array.isArray(node)) count.set(text(node), (count.get(text(node)) ?? 0) + 1);
  Object.values(node).forEach(walk);
};
walk(dashboard);

const definitions = {};
const names = new Map();
// Only whole schemas: a node under "properties" is one, "properties" itself is not.
const hoist = (node, isSchema) => {
  if (node === null || typeof node !== 'object') return node;
  if (Array.isArray(node)) return node.map((n) => hoist(n, isSchema));
  const key = text(node);
  const inPlace = () => Object.fromEntries(Object.entries(node).map(([k, v]) =>
    [k, isSchema ? hoist(v, !['properties', 'enum', 'required', 'const'].includes(k)) : hoist(v, true)]));
  if (!isSchema || count.get(key) < 2 || key.length < 120) return inPlace();
  if (!names.has(key)) {
    names.set(key, `t${names.size + 1}`);
    definitions[names.get(key)] = inPlace();
  }
  return { $ref: `#/definitions/${names.get(key)}` };
};
const root = hoist(dashboard, true);
writeFileSync('dashboard.schema.json', JSON.stringify({ $schema: schema.$schema, ...root, definitions }) + '\n');
