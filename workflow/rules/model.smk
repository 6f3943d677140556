# A model: described, and downloaded, converted or trained if need be.
rule model:
    input:
        missing_parents("results/model/{label}/{key}.json"),
    output:
        update("results/model/{label}/{key}.json"),
    log:
        "logs/model/{label}/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
