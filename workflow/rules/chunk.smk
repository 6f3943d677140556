# Many rows of one model's grid in one job, with `--config chunk=N`. The mark says that all of them are there.
rule chunk:
    input:
        lambda wildcards: RUN.chunk_inputs(f"{wildcards.model}/{wildcards.number}"),
    output:
        ".bitlaw/chunks/{plan}/{model}/{number}.done",
    log:
        "logs/chunk/{model}/{plan}-{number}.log",
    wildcard_constraints:
        plan="[0-9a-f]{32}-[0-9]+",
        model="[^/]+",
        number="[0-9]+",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=chunk_mem_mb,
        runtime=chunk_runtime,
    params:
        client=RUN.client,
    shell:
        "{params.client} make --plan .bitlaw/chunks/{wildcards.plan}/{wildcards.model}/{wildcards.number}.jsonl"
        " > {log} 2>&1 && : > {output}"
