# A model: described, and downloaded, converted or trained if need be.
rule model:
    input:
        lambda wildcards: RUN.inputs(f"results/model/{wildcards.label}/{wildcards.key}.json"),
    output:
        "results/model/{label}/{key}.json",
    log:
        "logs/model/{label}/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
